import numpy as np
import pytest
from matplotlib.figure import Figure

from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.analysis.figures.training import loss_gap
from mhc_repro.arm_files import arm_names
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.verdicts import Verdict

OFF = Verdict(off_the_constraint=("constraint_missed",))


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        ([], 1),
        (["HC"], 1),
        (["baseline", "HC", "mHC", "last probe", "largest over training"], 5),
        (["HC"] * 7, 4),  # two rows, evenly filled
        (["orthostochastic, tokenbender (degenerate)"] * 9, 2),
        (["x" * 200] * 3, 1),
    ],
)
def test_a_legend_has_as_many_columns_as_fit(labels, columns):
    assert drawing.legend_columns(labels) == columns


def test_the_legend_of_a_large_family_is_within_the_figure(fake):
    arms = [arm for arm in arm_names() if arm.startswith(("mhc", "published"))][:9]
    (found,) = comparisons([fake(arm, verdict=OFF) for arm in arms])
    figure = loss_gap(found)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent().transformed(figure.transFigure.inverted())
    assert box.x0 >= 0
    assert box.x1 <= 1
    panel = figure.axes[0].get_tightbbox().transformed(figure.transFigure.inverted())
    assert panel.y0 >= box.y1
    assert panel.height > 0.3


@pytest.mark.parametrize(
    ("flagged", "label"),
    [(0, "mHC"), (1, "mHC (1 of 3 runs off the constraint)"), (3, "mHC (off the constraint)")],
)
def test_an_arm_is_named_after_as_many_runs_as_are_flagged(fake, flagged, label):
    runs = [fake("mhc", seed=s, verdict=OFF if s < flagged else Verdict()) for s in range(3)]
    assert drawing.label("mhc", runs) == label


@pytest.mark.parametrize(
    ("blocks", "ticks"), [(1, [1, 2]), (4, [1, 2, 4, 6, 8]), (16, [1, *range(8, 33, 8)])]
)
def test_sub_layers_are_ticked_at_the_first_and_at_even_ones(blocks, ticks):
    ax = Figure().subplots()
    scales.tick_layers(ax, 2 * blocks)
    assert list(ax.xaxis.get_major_locator()()) == ticks


@pytest.mark.parametrize(
    ("values", "scale"),
    [([0.5, 1.0], "linear"), ([0.1, 1.0], "log"), ([0.0, 1.0], "linear"), ([1e-16, 1.0], "linear")],
)
def test_a_log_axis_is_for_what_is_positive_and_spans_much(values, scale):
    ax = Figure().subplots()
    ax.plot([*values, np.nan])
    scales.fit_positive(ax)
    assert ax.get_yscale() == scale


def test_a_gain_of_zero_is_in_view():
    ax = Figure().subplots()
    ax.plot([0.0, 1.0])
    scales.fit_gain([ax])
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] <= 0
