import numpy as np
import pytest
from matplotlib.axes import Axes

from made_runs import make_run
from mhc_repro.analysis import theme
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.styles import style
from mhc_repro.runs import read_runs
from mhc_repro.schema import GAINS
from parts.gain_curves import at_steps, averaging, heat_map, over_training


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    root = tmp_path_factory.mktemp("results")
    for arm in ("baseline", "hc", "mhc"):
        make_run(root, arm, blocks=3)
    (comparison,) = comparisons(read_runs(root))
    return comparison


def line(ax: Axes, colour: object) -> tuple[list[float], list[float]]:
    (only,) = [line for line in ax.lines if line.get_color() == colour]
    return list(only.get_xdata()), list(only.get_ydata())


def test_over_training_draws_the_largest_gain_of_every_arm(found):
    axes = over_training(found).axes
    for ax, key in zip(axes, GAINS, strict=True):
        for arm, (run,) in found.arms.items():
            measured = run.metrics.set_index("step")[f"gain/{key}"].dropna()
            x, y = line(ax, style(arm).colour)
            assert (x, y) == (list(measured.index), list(measured))
    assert set(line(axes[2], style("baseline").colour)[1]) == {1.0}
    assert axes[2].get_ylim() == axes[3].get_ylim()
    assert [ax.get_xlabel() for ax in axes] == ["step"] * 4


def test_at_steps_draws_one_line_a_step_from_first_to_last(found):
    (run,) = found.arms["hc"]
    figure = at_steps(found, "hc", count=3)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["step 0", "step 80", "step 160"]
    for ax, key in zip(figure.axes, GAINS, strict=True):
        table = run.gains.pivot(index="layer", columns="step", values=key)
        baseline, *lines = ax.lines
        assert set(baseline.get_ydata()) == {1.0}
        for drawn, step in zip(lines, (0, 80, 160), strict=True):
            assert list(drawn.get_xdata()) == [1, 2, 3, 4, 5, 6]
            assert list(drawn.get_ydata()) == list(table[step])
    assert figure.get_suptitle().startswith("HC: ")


@pytest.mark.parametrize("kind", ["single", "composite"])
def test_heat_map_shows_every_gain_where_it_belongs(found, kind):
    figure = heat_map(found, kind)
    panels = iter(figure.axes[:4])
    for arm in ("hc", "mhc"):
        for direction in ("forward", "backward"):
            ax, (run,) = next(panels), found.arms[arm]
            table = run.gains.pivot(index="layer", columns="step", values=f"{kind}_{direction}")
            (mesh,) = ax.collections
            assert np.asarray(mesh.get_array()).reshape(table.shape) == pytest.approx(table.to_numpy())
            assert ax.get_title(loc="left") == f"{style(arm).label}, {direction}"
            assert ax.get_ylim() == (0, 6)  # the first sub-layer at the bottom
            low, high = mesh.get_clim()
            assert low * high == pytest.approx(1.0)  # white is 1
            assert high >= table.max(axis=None)
    hc, mhc = figure.axes[0].collections[0], figure.axes[2].collections[0]
    assert hc.get_clim()[1] > mhc.get_clim()[1] >= 1.02


def test_heat_map_is_labelled_in_steps_and_sub_layers(found):
    ax = heat_map(found).axes[0]
    steps = dict(zip((label.get_text() for label in ax.get_xticklabels()), ax.get_xticks(), strict=True))
    # probed every 20 steps: step 120 is the seventh column, the middle of which is at 6.5
    assert steps["120"] == 6.5
    layers = [label.get_text() for label in ax.get_yticklabels()]
    assert layers == ["1", "2", "4", "6"]
    assert list(ax.get_yticks()) == [0.5, 1.5, 3.5, 5.5]


def test_a_diverged_gain_leaves_a_hole_and_not_an_error(fake):
    def gains(last: float) -> list[dict[str, float]]:
        values = [(0, 1, 1.0), (0, 2, 1.0), (20, 1, 5.0), (20, 2, last)]
        return [{"step": step, "layer": layer, **dict.fromkeys(GAINS, gain)} for step, layer, gain in values]

    made = [fake("baseline", gains=gains(1.0)), fake("hc", gains=gains(np.inf), state="diverged")]
    (comparison,) = comparisons([*made, fake("mhc", gains=gains(np.nan))])
    figure = heat_map(comparison)
    assert figure.axes[0].collections[0].get_clim()[1] == pytest.approx(5.0)
    theme.to_png(figure)
    theme.to_png(at_steps(comparison, "hc"))


def test_averaging_draws_the_relative_difference(probed):
    # sub-layers x tokens, n = 1: the mean product is 1.25, that of means 1
    h = np.array([[0.5, 1.5], [0.5, 1.5]])[..., None, None]
    (comparison,) = comparisons([probed(h, "baseline"), probed(h, "hc")])
    forward, backward = averaging(comparison).axes
    for ax, expected in ((forward, [0.0, -20.0]), (backward, [-20.0, 0.0])):
        drawn = [line for line in ax.lines if line.get_color() == style("hc").colour]
        assert len(drawn) == 2  # all probe tokens, and the kept ones
        for each in drawn:
            assert list(each.get_ydata()) == pytest.approx(expected)


def test_a_figure_becomes_the_same_small_png_each_time(found):
    png = theme.to_png(over_training(found))
    assert png.startswith(b"\x89PNG")
    assert png == theme.to_png(over_training(found))
    assert len(png) < 60_000
