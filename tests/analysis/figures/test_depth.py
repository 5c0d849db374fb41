import numpy as np
import pytest

from drawn_lines import data, lines
from made_runs import make_run
from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import depth
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.styles import style
from mhc_repro.runs import Run, read_runs


def run(fake, arm: str, blocks: int, forward: list[float], seed: int = 0, **options: object) -> Run:
    rows = [
        {"step": 20 * at, "gain/composite_forward": gain, "gain/composite_backward": gain + 100}
        for at, gain in enumerate(forward)
    ]
    return fake(arm, rows, seed=seed, model__blocks=blocks, **options)


def swept(runs: list[Run]) -> Comparison:
    found = depth.by_depth(comparisons(runs))
    assert found is not None
    return found


def test_shows_the_largest_gain_of_each_run_and_what_the_paper_reports(tmp_path):
    for blocks in (1, 3):
        for arm in ("baseline", "hc", "mhc"):
            make_run(tmp_path, arm, study="depth", blocks=blocks)
    (ax,) = depth.gain_by_depth(swept(read_runs(tmp_path))).axes
    for arm in ("hc", "mhc"):
        expected = {
            each.layers: each.gains[["composite_forward", "composite_backward"]].to_numpy().max()
            for each in read_runs(tmp_path)
            if each.connection == arm
        }
        (line,) = lines(ax, arm, "run")
        assert data(line) == expected
    (reference,) = [line for line in ax.lines if line.get_color() == style("baseline").colour]
    assert set(reference.get_ydata()) == {1.0}
    assert [line.get_ydata()[0] for line in ax.lines if line.get_gid() == "published"] == [3000.0, 1.6]
    assert list(ax.xaxis.get_major_locator()()) == [2, 6]


def test_two_seeds_are_two_values_and_no_interval(fake):
    runs = [run(fake, "hc", blocks, [1, blocks + seed], seed) for blocks in (4, 8) for seed in (0, 1)]
    figure = depth.gain_by_depth(swept(runs))
    shown = [data(line) for line in lines(figure.axes[0], "hc", "run")]
    assert shown == [{8: 104, 16: 108}, {8: 105, 16: 109}]
    assert not any(line.get_gid() in ("median", "range") for ax in figure.axes for line in ax.lines)
    assert "2 seeds (0, 1)" in figure.get_suptitle()
    assert "4/8 blocks" in figure.get_suptitle()


def test_from_three_seeds_on_the_median_has_their_range(fake):
    gains = [20.0, 400.0, 70.0]
    runs = [run(fake, "hc", 4, [1, gain], seed) for seed, gain in enumerate(gains)]
    runs += [run(fake, "hc", 8, [1, gain + 1], seed) for seed, gain in enumerate(gains[:2])]
    figure = depth.gain_by_depth(swept(runs))
    (ax,) = figure.axes
    assert [data(line) for line in lines(ax, "hc", "median")] == [{8: 170.0}]
    (bar,) = lines(ax, "hc", "range")
    assert list(bar.get_data()[1]) == [120.0, 500.0]
    assert [data(line) for line in lines(ax, "hc", "seed")] == [{8: gain + 100} for gain in gains]
    assert [data(line) for line in lines(ax, "hc", "run")] == [{16: 121.0}, {16: 501.0}]
    assert "smallest to largest" in {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_diverged_run_is_crossed_at_its_depth(fake):
    runs = [run(fake, "hc", 4, [1, 2]), run(fake, "hc", 8, [1, 50, np.inf], state="diverged", step=33)]
    for ax in depth.gain_by_depth(swept(runs)).axes:
        (cross,) = lines(ax, "hc", "diverged")
        ((layers, gain),) = data(cross).items()
        assert (layers, gain) == (16, 150)


def test_a_depth_that_was_not_run_is_absent(fake):
    runs = [run(fake, "hc", blocks, [1, 2]) for blocks in (4, 8)] + [run(fake, "mhc", 4, [1, 1.1])]
    (line,) = lines(depth.gain_by_depth(swept(runs)).axes[0], "mhc", "run")
    assert data(line) == {8: 101.1}


def test_no_figure_without_two_depths_that_have_ended(fake):
    one = run(fake, "hc", 4, [1, 2])
    assert depth.by_depth([]) is None
    assert depth.by_depth(comparisons([one])) is None
    assert depth.by_depth(comparisons([one, run(fake, "hc", 8, [1, 2], state="running")])) is None


@pytest.mark.parametrize("option", [{"optim__lr": 0.5}, {"manifest": {"protocol_version": 99}}])
def test_no_figure_where_more_than_the_depth_differs(fake, option):
    runs = [run(fake, "hc", 4, [1, 2]), run(fake, "hc", 8, [1, 2], **option)]
    assert depth.by_depth(comparisons(runs)) is None


def test_same_runs_same_bytes(fake):
    runs = [run(fake, arm, blocks, [1, 2 * blocks]) for blocks in (4, 8) for arm in ("baseline", "hc")]
    first, again = (theme.to_svg(depth.gain_by_depth(swept(each))) for each in (runs, runs[::-1]))
    assert first == again
