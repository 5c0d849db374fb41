import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from mhc_repro.analysis.stats import paired, t_interval


def test_interval_agrees_with_scipy() -> None:
    values = [2.343, 2.471, 2.401, 2.388]
    mean, half = t_interval(values)
    low, high = reference.t.interval(0.95, df=3, loc=np.mean(values), scale=reference.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_interval_of_three_in_closed_form() -> None:
    # mean 2, standard error 1 / sqrt(3), 97.5 % quantile of t with 2 degrees: 0.95 * sqrt(2 / (1 - 0.95**2))
    mean, half = t_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(0.95 * np.sqrt(2 / (1 - 0.95**2)) / np.sqrt(3))


def test_interval_runs_along_the_seeds() -> None:
    mean, half = t_interval([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert mean.tolist() == [2.0, 5.0]
    assert half[1] == 0.0
    assert half[0] > 0.0


def test_two_seeds_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 3 seeds, got 2"):
        t_interval([1.0, 2.0])


def test_pairs_only_shared_seeds() -> None:
    assert paired({2: 5.0, 0: 1.0, 7: 9.0}, {0: 0.5, 2: 1.0, 3: 4.0}) == {0: 0.5, 2: 4.0}


def test_pairs_series_by_their_steps() -> None:
    arm, baseline = pd.Series({1: 3.0, 2: 4.0}), pd.Series({2: 1.0, 3: 1.0})
    assert paired({0: arm}, {0: baseline})[0].dropna().to_dict() == {2: 3.0}
