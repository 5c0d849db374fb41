"""Against grids worked out by hand."""

from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhc_repro.evidence.sensitivity import best, largest_stable, sensitivity

RATES = (1e-3, 3e-3, 1e-2, 3e-2)
FREQUENCIES = 5.0
losses = st.lists(st.sampled_from([2.0, 3.0, 4.5, 5.0, 6.0, 9.0, inf]), min_size=4, max_size=4)


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


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ((3.0, 2.0, 2.0, inf), 3e-3),  # the lower of equals
        ((inf, inf, inf, 4.0), 3e-2),
        ((inf, inf, inf, inf), nan),
        ((3.0, 2.0, 2.5, nan), nan),  # what is missing might have been the best
    ],
)
def test_the_best_rate(found, rate):
    assert best(RATES, found) == pytest.approx(rate, nan_ok=True)


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
