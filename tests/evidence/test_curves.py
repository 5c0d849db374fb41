"""What a figure draws of a series keeps its ends and its spikes, and averages where all seeds have values."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import trim_mean

from mhc_repro.evidence.curves import envelope, mean, smooth, thin


def test_smooth_is_a_centred_trimmed_mean():
    rough = pd.Series(np.random.default_rng(0).normal(size=100), np.arange(1, 101))
    assert smooth(rough).iloc[50] == pytest.approx(trim_mean(rough.iloc[40:61], 0.1))
    assert smooth(rough).iloc[89] == pytest.approx(trim_mean(rough.iloc[79:100], 0.1))
    assert smooth(rough).iloc[0] == rough.iloc[0]
    assert smooth(rough).iloc[3] == pytest.approx(rough.iloc[:7].mean())
    assert smooth(rough).iloc[-1] == pytest.approx(trim_mean(rough.iloc[-11:], 0.1))
    assert smooth(rough[:0]).empty
    assert smooth(rough[:12]).notna().all()
    long = pd.Series(np.random.default_rng(0).normal(size=2000))
    assert smooth(long).iloc[1000] == pytest.approx(trim_mean(long.iloc[975:1026], 0.1))


def test_smooth_makes_no_plateau_of_a_spike():
    curve = pd.Series(np.linspace(3, 2, 200))
    spiked = curve.copy()
    spiked[100] = 50.0
    assert np.abs(smooth(spiked) - curve).max() < 0.1


def test_thinning_keeps_the_ends_and_an_envelope_every_spike():
    curve = pd.Series(np.zeros(2001))
    curve[1234] = 5.0
    curve[77] = -5.0
    assert len(thin(curve)) <= 201
    assert {thin(curve).index[0], thin(curve).index[-1]} == {0, 2000}
    assert {1234, 77} <= set(envelope(curve).index)
    assert len(envelope(curve)) <= 240


def test_a_mean_is_of_the_steps_that_all_seeds_have():
    curves = {seed: pd.Series(1.0 + seed, range(seed, seed + 5)) for seed in range(3)}
    assert mean(curves).to_dict() == {2: 2.0, 3: 2.0, 4: 2.0}
    assert mean({seed: curves[seed] for seed in (0, 1)}) is None
