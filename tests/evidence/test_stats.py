from math import inf, isnan, nan

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from mhc_repro.evidence.stats import Interval, interval, paired, pairing_correlation, ratio, t_interval


def test_interval_runs_along_the_seeds():
    mean, half = t_interval([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert mean.tolist() == [2.0, 5.0]
    assert half[1] == 0.0
    assert half[0] > 0.0


def test_two_seeds_have_no_interval():
    with pytest.raises(ValueError, match="at least 3 seeds, got 2"):
        t_interval([1.0, 2.0])


def test_pairs_only_shared_seeds():
    assert paired({2: 5.0, 0: 1.0, 7: 9.0}, {0: 0.5, 2: 1.0, 3: 4.0}) == {0: 0.5, 2: 4.0}


def test_pairs_series_by_their_steps():
    arm, baseline = pd.Series({1: 3.0, 2: 4.0}), pd.Series({2: 1.0, 3: 1.0})
    assert paired({0: arm}, {0: baseline})[0].dropna().to_dict() == {2: 3.0}


def test_an_interval_of_pairs_says_on_which_side_of_zero_it_lies():
    values = [0.02, 0.03, 0.025, 0.01]
    found = interval(values)
    low, high = reference.t.interval(0.95, df=3, loc=np.mean(values), scale=reference.sem(values))
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert (found.side(), found.side(noise=0.022)) == (1, 0)
    assert interval([-value for value in values]).side() == -1
    assert Interval(0.02, 0.021).side() == 0
    assert interval([0.0, 0.0, 0.0]).side() == 0  # an arm that is the other to the last bit


@pytest.mark.parametrize("gaps", [[], [1.0, 1.0], [1.0, 1.0, inf], [1.0, 1.0, nan]])
def test_without_three_finite_pairs_there_is_no_interval_and_no_side(gaps):
    found = interval(gaps)
    assert isnan(found.mean)
    assert isnan(found.half)
    assert found.side() == 0


def test_the_correlation_is_what_pairing_takes_off_the_variance():
    own, shared = np.random.default_rng(0).normal(size=(2, 3, 4000))
    for weight, expected in ((0.0, 0.0), (3.0, 0.9)):
        arm, other = (dict(enumerate(own[at] + weight * shared[0])) for at in (0, 1))
        r = pairing_correlation(arm, other)
        assert r == pytest.approx(expected, abs=0.05)
        spread = [np.std(list(of.values())) for of in (arm, other)]
        difference = np.std(list(paired(arm, other).values()))
        expected = spread[0] ** 2 + spread[1] ** 2 - 2 * r * spread[0] * spread[1]
        assert difference**2 == pytest.approx(expected)


def test_only_seeds_that_both_have_are_correlated():
    arm, other = {0: 1.0, 1: 2.0, 2: 4.0, 9: -50.0}, {2: 1.0, 1: 3.0, 0: 4.0, 7: 50.0}
    expected = reference.pearsonr([1, 2, 4], [4, 3, 1]).statistic
    assert pairing_correlation(arm, other) == pytest.approx(expected)


@pytest.mark.parametrize("other", [{0: 1.0, 1: 2.0}, {0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 2.0, 2: inf}])
def test_without_three_seeds_that_scatter_there_is_no_correlation(other):
    assert isnan(pairing_correlation({0: 1.0, 1: 2.0, 2: 4.0}, other))


@pytest.mark.parametrize(
    ("ours", "other", "expected"),
    [(6, 3, 2), (inf, 3, inf), (3, inf, 0), (6, 0, nan), (0, 6, nan), (inf, inf, nan), (nan, 1, nan)],
)
def test_a_ratio_with_a_zero_in_it_is_no_number(ours, other, expected):
    assert ratio(ours, other) == pytest.approx(expected, nan_ok=True)
