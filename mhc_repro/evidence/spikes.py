"""Spikes in a per-step series; numpy only, so that the analysis half may use it."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 128  # steps, by which the next one is judged
NORMAL = 1.4826  # times the median absolute deviation: the standard deviation of a normal distribution


def spikes(series: ArrayLike, window: int = WINDOW, sigma: float = 6.0) -> NDArray[np.bool_]:
    """Mark values above mean + sigma standard deviations of the `window` values before them.

    What stands out of a window itself, more than sigma robust deviations (NORMAL times the median absolute one)
    above its median, is left out of both. Else a burst hides what comes within a window of it: after that of
    warm-up the rule was blind until step 155, and at step 129 of study `seeds` its limit stood 29 above the median
    gradient norm, where it now stands 2.6. What falls steeply still widens its window: the limit of the loss stands
    2.5 nats above the median at step 129, 1.3 at 155 and 0.5 from 200 on.

    A value that is not finite counts as a spike, and is left out of the windows of those that follow. Of the first
    `window` steps no other is marked: there is nothing to judge them by.
    """
    values = np.asarray(series, dtype=np.float64)
    marks = ~np.isfinite(values)
    if len(values) > window:
        past = np.lib.stride_tricks.sliding_window_view(np.where(marks, np.nan, values), window)[:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window without a finite value has no limit
            median = np.nanmedian(past, axis=1, keepdims=True)
            robust = NORMAL * np.nanmedian(np.abs(past - median), axis=1, keepdims=True)
            calm = np.where(past > median + sigma * robust, np.nan, past)
            limit = np.nanmean(calm, axis=1) + sigma * np.nanstd(calm, axis=1)
            marks[window:] |= values[window:] > limit
    return marks
