"""Spikes in a per-step series; numpy only, so that the analysis half may use it."""

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 128  # steps, by which the next one is judged


def spikes(series: ArrayLike, window: int = WINDOW, sigma: float = 6.0) -> NDArray[np.bool_]:
    """Mark values above mean + sigma standard deviations of the `window` values before them.

    The first `window` steps are never marked: there is nothing to judge them by. A value that is
    not finite counts as a spike, and is left out of the windows of those that follow.
    """
    values = np.asarray(series, dtype=np.float64)
    marks = ~np.isfinite(values)
    if len(values) > window:
        past = np.lib.stride_tricks.sliding_window_view(np.where(marks, np.nan, values), window)[:-1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window without a finite value has no limit
            limit = np.nanmean(past, axis=1) + sigma * np.nanstd(past, axis=1)
            marks[window:] |= values[window:] > limit
    return marks
