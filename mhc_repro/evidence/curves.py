"""What a figure draws of a run's series: the finite part, smoothed, no more points than a screen shows."""

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
import pandas as pd

from mhc_repro.evidence import stats
from mhc_repro.evidence.readings import column
from mhc_repro.runs import Run

MOST, BINS = 200, 120  # points of a smooth curve, parts of a rough one
Curves = Mapping[int, pd.Series]  # by seed, indexed by step or by sub-layer


def curves(runs: Sequence[Run], key: str) -> dict[int, pd.Series]:
    """Read a metric of each run, where it is finite."""
    found = {run.seed: column(run.metrics.set_index("step"), key) for run in runs}
    return {seed: curve[np.isfinite(curve)] for seed, curve in found.items()}


def gaps(runs: Sequence[Run], baseline: Sequence[Run], key: str) -> dict[int, pd.Series]:
    """Subtract the baseline of the same seed, at the steps that both have."""
    differences = stats.paired(curves(runs, key), curves(baseline, key))
    return {seed: difference.dropna() for seed, difference in differences.items()}


def by_layer(runs: Sequence[Run], key: str) -> dict[int, pd.DataFrame]:
    """Read a gain of each run: a row per sub-layer, a column per probed step."""
    known = [run for run in runs if key in run.gains]
    return {run.seed: run.gains.pivot(index="layer", columns="step", values=key) for run in known}


def mean(curves: Curves) -> pd.Series | None:
    """Average over the seeds that have values, where all of them do; None when they are too few."""
    known = [curve for curve in curves.values() if len(curve)]
    return pd.concat(known, axis=1, join="inner").mean(axis=1) if len(known) >= stats.FEWEST else None


def smooth(curve: pd.Series) -> pd.Series:
    """Take a centred running mean over a fortieth of the curve (20 points at least), its outer tenths left out.

    Trimmed, since a plain mean would turn one spike into a plateau. The window narrows towards the start,
    where a loss falls too fast to average over, and is cut at the end.
    """
    values, half = curve.to_numpy(dtype=float), max(len(curve) // 80, 10)
    smoothed = np.empty(len(values))
    if len(values) > 2 * half:
        whole = np.lib.stride_tricks.sliding_window_view(values, 2 * half + 1)
        smoothed[half:-half] = _trimmed(whole)
    for place in (*range(min(half, len(values))), *range(max(half, len(values) - half), len(values))):
        reach = min(half, place)
        smoothed[place] = _trimmed(values[place - reach : place + reach + 1])
    return pd.Series(smoothed, curve.index)


def _trimmed(windows: np.ndarray) -> np.ndarray:
    cut = windows.shape[-1] // 10
    return np.sort(windows)[..., cut : windows.shape[-1] - cut].mean(axis=-1)


def thin(curve: pd.Series) -> pd.Series:
    """Keep at most MOST points, and the last, of a smooth curve."""
    kept = curve.iloc[:: max(ceil(len(curve) / MOST), 1)]
    return kept if len(kept) < 2 or kept.index[-1] == curve.index[-1] else pd.concat([kept, curve.iloc[-1:]])


def envelope(curve: pd.Series) -> pd.Series:
    """Keep the smallest and the largest value of each of BINS parts of a rough curve: every spike stays."""
    if len(curve) <= 2 * BINS:
        return curve
    values = curve.to_numpy()
    parts = np.array_split(np.arange(len(curve)), BINS)
    kept = {part[pick(values[part])] for part in parts for pick in (np.argmin, np.argmax)}
    return curve.iloc[sorted(kept)]
