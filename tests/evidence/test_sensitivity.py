"""Against hand-computed grids, and the definition as a plain loop."""

from math import inf, isnan, log10, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as reference

from mhc_repro.evidence.sensitivity import best, largest_stable, sensitivity
from mhc_repro.evidence.stats import Interval, interval, paired

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
FREQUENCIES = 5.0
losses = st.lists(st.sampled_from([2.0, 3.0, 4.5, 5.0, 6.0, 9.0, inf]), min_size=4, max_size=4)


def compared(found: dict[str, dict[int, float]]) -> Interval:
    """mHC minus HC over the seeds for which both have a number."""
    return interval([gap for gap in paired(found["mhc"], found["hc"]).values() if not isnan(gap)])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((3.0, 2.0, 4.0, 5.0), (1 + 0 + 2 + 3) / 4),
        ((3.0, 2.0, 4.0, inf), (1 + 0 + 2 + 6) / 4),  # diverged: the loss at the start, 8
        ((3.0, 2.0, 9.0, inf), (1 + 0 + 6 + 6) / 4),  # worse than the start is no worse than diverged
        ((2.0, 2.0, 2.0, 2.0), 0.0),
        ((8.0, 9.0, inf, inf), nan),  # learns nowhere
        ((inf, inf, inf, inf), nan),
        ((3.0, 2.0, nan, 5.0), nan),  # a hole
    ],
)
def test_sensitivity_by_hand(found, expected):
    assert sensitivity(found, 8.0) == pytest.approx(expected, nan_ok=True)


@given(losses, st.floats(-5, 5), st.floats(0.1, 10))
def test_sensitivity_moves_with_the_unit_and_not_with_the_zero_of_the_loss(found, shift, unit):
    moved = sensitivity([unit * loss + shift for loss in found], unit * 8.0 + shift)
    assert moved == pytest.approx(unit * sensitivity(found, 8.0), nan_ok=True, abs=1e-9)


def test_seeds_are_rows_with_starts_of_their_own():
    found = [(3.0, 2.0, 4.0, inf), (3.0, 2.0, nan, 4.0), (4.0, 4.0, 3.0, inf)]
    assert sensitivity(found, [8.0, 8.0, 7.0]) == pytest.approx([9 / 4, nan, 6 / 4], nan_ok=True)
    rate, loss = best(RATES, found)
    assert rate == pytest.approx([3e-3, nan, 1e-2], nan_ok=True)
    assert loss == pytest.approx([2.0, nan, 3.0], nan_ok=True)
    assert largest_stable(RATES, found, FREQUENCIES) == pytest.approx([1e-2, nan, 1e-2], nan_ok=True)


@pytest.mark.parametrize(
    ("found", "rate", "loss"),
    [
        ((3.0, 2.0, 2.0, inf), 3e-3, 2.0),  # the lower of equals
        ((inf, inf, inf, 4.0), 3e-2, 4.0),
        ((inf, inf, inf, inf), nan, nan),
        ((3.0, 2.0, 2.5, nan), nan, nan),  # what is missing might have been the best
    ],
)
def test_the_best_rate(found, rate, loss):
    assert best(RATES, found) == pytest.approx((rate, loss), nan_ok=True)


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ((3.0, 2.0, 4.0, 4.9), 3e-2),  # the edge lies beyond the grid
        ((3.0, 2.0, 4.0, inf), 1e-2),
        ((3.0, 2.0, 4.0, 5.0), 1e-2),  # finite, and knows no more than frequencies
        ((3.0, 2.0, 5.1, 3.0), 3e-3),  # a higher rate that trains by luck is beyond the first that broke
        ((5.5, 2.0, 4.0, inf), 1e-2),  # too slow is not broken
        ((5.5, inf, 2.0, 3.0), 1e-3),  # ... but diverged is
        ((inf, 2.0, 3.0, 4.0), 0.0),
        ((6.0, 5.5, 5.2, 5.0), 0.0),  # none trains
        ((inf, inf, inf, inf), 0.0),
        ((3.0, nan, 4.0, inf), nan),
        ((3.0, 2.0, inf, nan), nan),
    ],
)
def test_the_largest_stable_rate(found, rate):
    assert largest_stable(RATES, found, FREQUENCIES) == pytest.approx(rate, nan_ok=True)


def test_without_a_threshold_nothing_is_called_stable():
    assert isnan(largest_stable(RATES, (3.0, 2.0, 4.0, 4.9), nan))


@given(losses)
def test_the_largest_stable_rate_against_its_definition(found):
    expected = 0.0
    if min(found) < FREQUENCIES:
        for at, (rate, loss) in enumerate(zip(RATES, found, strict=True)):
            if loss == inf or (loss >= FREQUENCIES and at > found.index(min(found))):
                break
            expected = rate
    assert largest_stable(RATES, found, FREQUENCIES) == expected


@pytest.mark.parametrize("rates", [(), (1e-3, 3e-3), (1e-3, 1e-2, 3e-3, 3e-2), (1e-3, 1e-3, 1e-2, 3e-2)])
def test_rates_that_are_no_grid_of_the_losses_are_named(rates):
    with pytest.raises(ValueError, match=r"\(4,\) need as many ascending rates, got \["):
        best(rates, (1.0, 2.0, 3.0, 4.0))
    with pytest.raises(ValueError, match="ascending"):
        largest_stable(rates, (1.0, 2.0, 3.0, 4.0), FREQUENCIES)


def test_two_arms_are_compared_by_seed_and_a_hole_costs_its_pair():
    found = {
        "hc": [(3.0, 2.0, 2.5, 4.0), (3.1, 2.2, 2.5, 3.9), (3.0, 2.1, 2.4, inf), (3.0, nan, 2.5, 4.0)],
        "mhc": [(3.0, 2.1, 3.5, inf), (3.0, 2.0, 3.0, inf), (3.0, 2.2, 3.6, inf), (3.0, 2.1, 3.5, inf)],
    }
    gap = compared({arm: dict(enumerate(sensitivity(of, [8.0] * 4))) for arm, of in found.items()})
    by_hand = [
        (0.9 + 0 + 1.4 + 5.9) / 4 - (1 + 0 + 0.5 + 2) / 4,
        (1 + 0 + 1 + 6) / 4 - (0.9 + 0 + 0.3 + 1.7) / 4,
        (0.8 + 0 + 1.4 + 5.8) / 4 - (0.9 + 0 + 0.3 + 5.9) / 4,
    ]
    low, high = reference.t.interval(0.95, df=2, loc=np.mean(by_hand), scale=reference.sem(by_hand))
    assert (gap.mean - gap.half, gap.mean + gap.half) == pytest.approx((low, high))
    assert gap.pairs == 3
    edges = {
        arm: {seed: log10(largest_stable(RATES, of[seed], FREQUENCIES)) for seed in (0, 1)}
        for arm, of in found.items()
    }
    two = compared(edges)  # half a decade each, and nothing is decided by two
    assert (two.pairs, isnan(two.mean), two.side()) == (2, True, 0)
