import numpy as np
import pytest

from mhc_repro.analysis import theme
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.styles import style
from parts.anatomy import ARMS, HC, MHC, QUARTER
from parts.anatomy_figures import activation, losses, separation


def test_activation_draws_every_arm_and_the_quarter(four):
    ax = activation(four).axes[0]
    (rule,) = [line for line in ax.lines if line.get_label() == "1 + (baseline − 1)/4"]
    (baseline,) = [line for line in ax.lines if line.get_color() == style("baseline").colour]
    assert np.asarray(rule.get_ydata()) == pytest.approx(1 + (np.asarray(baseline.get_ydata()) - 1) / 4)
    assert {line.get_color() for line in ax.lines} >= {style(arm).colour for arm in ARMS}


def test_an_exact_zero_stays_in_view(four):
    for ax in separation(four).axes:
        (line,) = [line for line in ax.lines if line.get_color() == style(MHC).colour]
        assert set(line.get_ydata()) == {0.0}
        assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]
        assert ax.get_yticklabels()[0].get_text() == "0"


def test_losses_draw_the_distance_from_each_reference(four):
    gap = losses(four).axes[1]
    for arm, apart in (("baseline", 0.2), (QUARTER, 1e-6)):
        (line,) = [line for line in gap.lines if line.get_color() == style(arm).colour]
        assert np.asarray(line.get_ydata()) == pytest.approx(np.full(60, apart))
    assert len(gap.lines) == 2


@pytest.mark.parametrize("arms", [("baseline",), (HC,), (MHC,), (MHC, QUARTER)])
def test_figures_draw_whatever_is_there(published, arms):
    (found,) = comparisons([published(arm) for arm in arms])
    theme.to_png(activation(found))
    if {HC, MHC} & set(arms):
        theme.to_png(separation(found))
    if {MHC, "baseline"} & set(arms):
        theme.to_png(losses(found))
