from collections.abc import Callable
from functools import reduce

import numpy as np
import pandas as pd
import pytest

from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.composites import amax, backward
from mhc_repro.runs import Run
from parts.gains import compounding, peaks, readings

# H_res of five sub-layers and six tokens, signs mixed, around I
H = np.eye(3) + 0.4 * np.random.default_rng(3).normal(size=(5, 6, 3, 3))


@pytest.fixture
def two(probed: Callable[..., Run]) -> Comparison:
    baseline = probed(np.ones((5, 6, 1, 1)), "baseline")
    (found,) = comparisons([baseline, probed(H, "hc")])
    return found


def test_peaks_say_where(two, probed):
    (run,) = two.arms["hc"]
    later = run.gains.assign(step=80)
    later["composite_forward"] = [1.0, 9.0, 9.0 + 1e-9, 1.0, 2.0]
    run.__dict__["gains"] = pd.concat([run.gains, later], ignore_index=True)
    table = peaks(two)
    assert table.loc[("HC", "composite forward")].tolist() == pytest.approx([9.0, 2, 80, 9.0])
    assert table.loc[("baseline", "single backward")].tolist() == [1.0, 1, 60, 1.0]
    seeds = peaks(Comparison("made-up", "", {"hc": [probed(H, seed=seed) for seed in (0, 1)]}))
    assert list(dict.fromkeys(seeds.index.get_level_values("arm"))) == ["HC, seed 0", "HC, seed 1"]


def test_compounding_takes_the_whole_depth_in_both_directions(two):
    table = compounding(two)
    whole = reduce(np.matmul, H[::-1]).mean(0)
    for direction in ("forward", "backward"):
        row, gain = table.loc[("HC", direction)], amax(whole, direction)
        assert row["composite, all sub-layers"] == pytest.approx(gain)
        assert row["growth per sub-layer"] == pytest.approx(gain**0.2)
        assert row["product of singles"] == pytest.approx(np.prod(amax(H.mean(1), direction)))
        assert row["largest single"] == pytest.approx(amax(H.mean(1), direction).max())


def test_readings_are_ordered_as_convexity_says(two):
    table = readings(two)
    mean, token, norm = table.loc[("HC", "backward")]
    products = backward(H)
    assert mean == pytest.approx(amax(products.mean(1), "backward").max())
    assert token == pytest.approx(amax(products, "backward").mean(1).max())
    assert norm == pytest.approx(np.abs(products.mean(1)).sum(-2).max())
    assert (table.loc["baseline"] == 1.0).all(axis=None)
    assert mean < token
    assert mean < norm
