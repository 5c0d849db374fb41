"""Spikes against a loop that follows the rule word by word."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhc_repro.evidence.spikes import spikes


def by_loop(series: list[float], window: int, sigma: float) -> list[bool]:
    marks = []
    for index, value in enumerate(series):
        if not math.isfinite(value):
            marks.append(True)
            continue
        past = [v for v in series[max(0, index - window) : index] if math.isfinite(v)]
        if index < window or not past:
            marks.append(False)
            continue
        median = statistics.median(past)
        robust = 1.4826 * statistics.median(abs(v - median) for v in past)
        calm = [v for v in past if v <= median + sigma * robust]
        mean = sum(calm) / len(calm)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in calm) / len(calm))
        marks.append(value > mean + sigma * deviation)
    return marks


numbers = st.one_of(
    st.integers(-50, 50).map(lambda v: v / 8), st.sampled_from([math.nan, math.inf, -math.inf, 1e6])
)


@given(st.lists(numbers, max_size=30), st.integers(1, 8), st.sampled_from([0.5, 1.5, 3.0]))
def test_against_a_loop(series, window, sigma):
    marks = spikes(series, window, sigma)
    assert marks.dtype == bool
    assert marks.tolist() == by_loop(series, window, sigma)


def test_the_default_is_six_sigma_over_128_steps():
    noise = np.random.Generator(np.random.Philox(0)).normal(2.0, 0.1, 1000)
    assert not spikes(noise).any()
    past = noise[300 - 128 : 300]
    for sigmas, spike in ((5.9, False), (6.1, True)):
        series = noise.copy()
        series[300] = past.mean() + sigmas * past.std()
        assert spikes(series)[300] == spike
    for index in (127, 128):  # the first 128 have too little before them to be judged by
        series = noise.copy()
        series[index] = 50.0
        assert np.flatnonzero(spikes(series)).tolist() == ([128] if index == 128 else [])


@pytest.mark.parametrize("at", [128, 140, 154, 160, 300])
def test_the_burst_of_warm_up_hides_no_spike(at):
    noise = np.random.Generator(np.random.Philox(1)).normal(1.0, 0.1, 500)
    noise[24:30] += [5.0, 60.0, 140.0, 40.0, 10.0, 2.0]
    assert np.flatnonzero(spikes(noise)).tolist() == []
    noise[at] = 3.0  # twenty deviations
    assert np.flatnonzero(spikes(noise)).tolist() == [at]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_a_spike_and_spoils_nothing_after_it(value):
    series = np.full(400, 1.0) + 0.01 * np.sin(np.arange(400))
    series[[5, 200]] = value
    series[250] = 9.0
    assert np.flatnonzero(spikes(series)).tolist() == [5, 200, 250]


@pytest.mark.filterwarnings("error")
def test_a_series_that_is_nowhere_finite():
    assert spikes(np.full(300, np.nan)).all()
    mixed = np.r_[np.full(200, np.nan), np.ones(200)]
    assert spikes(mixed).tolist() == [True] * 200 + [False] * 200
