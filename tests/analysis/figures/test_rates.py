"""The figure over a swept rate: every run of it, medians, and differences paired by seed."""

from collections.abc import Callable, Sequence
from math import inf, log

import numpy as np
import pytest
from matplotlib.lines import Line2D

from drawn_lines import data, lines
from mhc_repro.analysis import figures, study
from mhc_repro.analysis.figures import rates
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.sweeps import DRAWN, LR, MAPS_LR, drawn, rate, sweeps
from mhc_repro.runs import Run

GRIDS = {LR: (1e-3, 3e-3, 1e-2, 3e-2), MAPS_LR: (1.0, 3.0, 10.0, 100.0)}


@pytest.fixture
def swept(series) -> Callable[..., list[Run]]:
    return lambda key, arm, *bits, **options: series(
        arm, *bits, **{key.replace(".", "__"): GRIDS[key]}, **options
    )


def by_rate(line: Line2D, grid: Sequence[float] = GRIDS[LR]) -> dict[float, float]:
    """What a line shows at each rate, beside which it stands."""
    return {min(grid, key=lambda rate: abs(log(rate / x))): y for x, y in data(line).items()}


@pytest.mark.parametrize(("key", "first"), [(LR, "baseline"), (MAPS_LR, "identity")])
def test_marks_are_runs_and_differences_from_the_first_arm_by_seed_and_lines_their_medians(swept, key, first):
    study = "maps" if key == MAPS_LR else "made-up"
    bits = dict(zip((first, "hc", "mhc"), np.random.default_rng(0).uniform(3.7, 5.0, (3, 3, 4)), strict=True))
    runs = [
        run
        for arm, of_arm in bits.items()
        for seed, of_seed in enumerate(of_arm)
        for run in swept(key, arm, *of_seed, seed=seed, study=study)
    ]
    (sweep,) = sweeps(comparisons(runs), key)
    above, below = rates.rates(sweep.whole, key).axes
    assert f"− {style(first).label}'s, paired by seed" in below.get_title(loc="left")
    for ax, shift in ((above, 0.0), (below, bits[first])):
        assert ax.get_xscale() == "log"
        assert list(ax.xaxis.get_major_locator()()) == list(GRIDS[key])
        for arm, of_arm in bits.items():
            marks = [list(by_rate(line, GRIDS[key]).values()) for line in lines(ax, arm, "seed")]
            assert marks == pytest.approx(of_arm - shift)
            (middle,) = lines(ax, arm, "median")
            shown = dict(zip(GRIDS[key], np.median(of_arm - shift, axis=0), strict=True))
            assert by_rate(middle, GRIDS[key]) == pytest.approx(shown)
        assert not [line for line in ax.lines if line.get_gid() == "diverged"]


def test_a_small_difference_and_a_large_one_can_both_be_read(swept):
    runs = swept(LR, "baseline", 3.7, 3.7, 3.7, 3.7) + swept(LR, "hc", 3.7, 3.73, 3.75, 5.7)
    (sweep,) = sweeps(comparisons(runs), LR)
    *_, ax = rates.rates(sweep.whole, LR).axes
    places = ax.transAxes.inverted().transform(ax.transData.transform([(1, y) for y in (0, 0.03, 0.05, 2)]))
    assert (np.diff(places[:, 1]) > 0.04).all()
    assert {0, 0.02, 0.05, 2} <= {*ax.get_yticks()}
    assert places[-1, 1] < 1


def test_alone_an_arm_has_no_differences(swept):
    (sweep,) = sweeps(comparisons(swept(LR, "hc", 3.75, 3.8, 3.9, 4.0)), LR)
    assert len(rates.rates(sweep.whole, LR).axes) == 1


def test_a_run_that_diverged_is_a_counted_mark_at_the_upper_edge_and_breaks_the_line(swept):
    runs = swept(LR, "hc", 3.75, 3.8, inf, inf) + swept(LR, "hc", 3.75, 3.9, 4.5, inf, seed=1)
    runs += [run for seed in (0, 1) for run in swept(LR, "mhc", 3.75, 3.8, 3.9, 4.0, seed=seed)]
    runs += [run for seed in (0, 1) for run in swept(LR, "baseline", 3.7, 3.7, 3.7, 3.7, seed=seed)]
    (sweep,) = sweeps(comparisons(runs), LR)
    for ax, base in zip(rates.rates(sweep.whole, LR).axes, (0.0, 3.7), strict=True):
        crosses = lines(ax, "hc", "diverged")
        assert [each.get_xdata()[0] for each in crosses] == pytest.approx([1e-2, 3e-2])  # between the others
        assert {each.get_ydata()[0] for each in crosses} == {ax.get_ylim()[1]}
        assert [text.get_text() for text in ax.texts] == ["1", "2"]
        (middle,) = lines(ax, "hc", "median")
        assert by_rate(middle) == pytest.approx({1e-3: 3.75 - base, 3e-3: 3.85 - base})
        lived = by_rate(lines(ax, "hc", "seed")[1])[1e-2]
        assert lived == pytest.approx(4.5 - base)  # the seed that lived is still seen
        assert len(by_rate(lines(ax, "mhc", "median")[0])) == 4
        assert not lines(ax, "mhc", "diverged")


def test_of_three_seeds_the_line_passes_through_a_run_where_one_diverged(swept):
    runs = [run for seed, at in enumerate((4.0, 4.9, inf)) for run in swept(LR, "hc", 4, 4, 4, at, seed=seed)]
    (sweep,) = sweeps(comparisons(runs), LR)
    (middle,) = lines(rates.rates(sweep.whole, LR).axes[0], "hc", "median")
    assert by_rate(middle)[3e-2] == 4.9


def test_the_frequencies_of_bytes_are_drawn_and_named_only_where_a_loss_comes_near(swept):
    for worst, said in ((4.0, False), (5.5, True)):
        (sweep,) = sweeps(comparisons(swept(LR, "hc", 3.75, 3.8, 3.9, worst)), LR)
        figure = rates.rates(sweep.whole, LR)
        known = [text.get_text() for text in figure.legends[0].get_texts()]
        assert ("frequencies of bytes alone" in known) is said
        drawn_at = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_gid() == "frequencies"]
        assert drawn_at == [5.118] * said


def test_fewer_seeds_are_thin_and_counted(swept):
    runs = [run for seed in range(3) for run in swept(LR, "hc", 3.75, 3.8, 3.9, 4.0, seed=seed)]
    (sweep,) = sweeps(comparisons([*runs, *swept(LR, "mhc", 3.75, 3.8, 3.9, 4.0)]), LR)
    figure = rates.rates(sweep.whole, LR)
    (thin,), (thick,) = (lines(figure.axes[0], arm, "median") for arm in ("mhc", "hc"))
    assert thin.get_linewidth() < thick.get_linewidth()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["HC", "mHC, 1 seed"]


@pytest.mark.parametrize("key", GRIDS)
def test_a_sweep_has_its_figure_first_and_those_of_few_settings(swept, key):
    of_study = comparisons(swept(key, "hc", 3.75, 3.8, 3.9, 4.0))
    first, *rest = figures.of_study(of_study)
    assert first.path == f"figures/made-up-{rates.NAMES[key]}.svg"
    shown = {rate(each.comparison.runs[0], key) for each in rest}
    assert shown == {*DRAWN[key]} & {*GRIDS[key]}
    assert shown < {*GRIDS[key]}
    assert rates.NAMES[key] not in {each.name for each in rest}


def test_two_rates_are_no_sweep_and_another_sweep_has_every_setting(swept, fake):
    two = comparisons(swept(LR, "hc", 3.75, 3.8, 3.9, 4.0)[2:])
    assert not sweeps(two, LR)
    assert drawn(two) == two
    others = comparisons([fake("hc", optim__lr=value) for value in (0.1, 0.2, 0.4)])
    assert len(sweeps(others, LR)) == 1
    assert drawn(others) == others


def test_of_many_settings_the_chosen_ones_have_figures_and_the_page_names_them(fake):
    runs = [
        fake(
            "hc", bits=3.0, optim__lr=lr, train__precision=precision, train__streams=streams, study="formats"
        )
        for lr in (3e-3, 1e-1)
        for precision in ("float32", "float64")
        for streams in ("wide", "float16")
    ]
    of_study = comparisons(runs)
    assert [each.setting for each in drawn(of_study)] == chosen().drawn["formats"][::-1]
    named = "; ".join(each.setting for each in drawn(of_study))
    said = f"Of the study's 8 settings these have figures of their own: {named}."
    assert said in study.page("formats", of_study)


def test_a_rate_is_swept_within_each_other_setting(swept):
    bits = 3.75, 3.8, 3.9, 4.0
    runs = [run for blocks in (4, 16) for run in swept(LR, "hc", *bits, model__blocks=blocks)]
    found = [(each.whole.setting, each.grid) for each in sweeps(comparisons(runs), LR)]
    assert found == [("blocks 4", [*GRIDS[LR]]), ("blocks 16", [*GRIDS[LR]])]
