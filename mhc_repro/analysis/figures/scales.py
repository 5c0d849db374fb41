"""Axes that neither hide nor dramatise: how far a loss, a gain and what is positive reach, and on which scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

SETTLED = 0.1  # loss axes fit what comes after this fraction of a run: the fall from ln 256 would hide it
RUNAWAY = 0.9  # ... and before this fraction of a run that diverged, lest its end flatten the others
NEAR_ONE = 0.2, 5.0  # gains within stay on a linear axis (rows that sum to 1 allow n = 4) ...
CLOSEST = 0.9, 1.1  # ... that shows at least this much, so that rounding noise looks like what it is
LOG_FROM = 4.0  # a positive quantity that spans this factor gets a log axis
LINEAR = 0.1  # a difference has a linear axis up to here and a log axis beyond: 0.03 and 2 can both be read
SIZES = 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10  # that such an axis names, if it reaches so far
ROUNDING = 1e-12  # what is smaller is a 0 that float64 left


def fit_settled(ax: Axes, include: Sequence[float] = ()) -> None:
    """Fit a loss axis to what comes after the first fall and, in a run that diverged, before its end."""
    shown = [line for line in ax.lines if line.get_gid() not in ("raw", "diverged")]
    crosses = [(line.get_label(), _xy(line)[0][0]) for line in ax.lines if line.get_gid() == "diverged"]
    start = SETTLED * max((_xy(line)[0].max(initial=0.0) for line in shown), default=0.0)
    values = [np.array(include)]
    for line in shown:
        (x, y), end = _xy(line), np.inf
        for arm, step in crosses:
            if line.get_label() == arm and 0.95 * step < x.max(initial=0.0) <= step:
                end = RUNAWAY * step
        values.append(y[(x >= start) & (x <= end) & np.isfinite(y)])
    kept = np.concatenate(values)
    if len(kept):
        margin = 0.06 * max(np.ptp(kept), 1e-3)
        ax.set_ylim(kept.min() - margin, kept.max() + margin)


def fit_gain(axes: Sequence[Axes]) -> None:
    """Give gains a shared axis around 1: linear while they stay near it, else logarithmic."""
    values = np.append(finite(axes), 1.0)
    low, high = values.min(), values.max()
    near = (NEAR_ONE[0] <= low or low <= 0) and high <= NEAR_ONE[1]  # 0: no gradient comes back at all
    for ax in axes:
        if near:
            margin = 0.08 * (high - low)
            ax.set_ylim(min(low - margin, CLOSEST[0]), max(high + margin, CLOSEST[1]))
        else:
            _log(ax, values[values > 0].min(), high)


def fit_positive(ax: Axes) -> None:
    """Put a quantity on a log axis when it spans much and is positive everywhere: a zero has to be seen."""
    values = finite([ax])
    if len(values) and ROUNDING < values.min() < values.max() / LOG_FROM:
        _log(ax, values.min(), values.max())


def fit_signed(ax: Axes) -> None:
    """Put differences on an axis that is linear around zero and logarithmic beyond LINEAR."""
    values = np.append(finite([ax]), 0.0)
    # more room at the top, where a cross and its number stand for runs that diverged
    low, high = max(LINEAR / 2, -1.25 * values.min()), max(LINEAR / 2, 2 * values.max())
    ax.set_yscale("symlog", linthresh=LINEAR, linscale=1.5)
    ax.set_ylim(-low, high)
    ax.yaxis.set_major_locator(FixedLocator([*(-size for size in SIZES), 0, *SIZES]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "−")))
    ax.yaxis.set_minor_locator(NullLocator())


def layer_step(layers: int) -> int:
    """Choose how far apart the sub-layers are that are named, whole blocks."""
    return max(2 * (layers // 8), 2)


def layer_ticks(layers: int) -> list[int]:
    """Choose the sub-layers that are named: the first, and at most eight even ones."""
    every = layer_step(layers)
    return [1, *range(every, layers + 1, every)]


def tick_layers(ax: Axes, layers: int) -> None:
    """Tick sub-layers along a panel."""
    ax.xaxis.set_major_locator(FixedLocator(layer_ticks(layers)))


def finite(axes: Sequence[Axes]) -> np.ndarray:
    """Collect what the lines of some axes show, where it is finite."""
    values = np.concatenate([np.empty(0), *(_xy(line)[1] for ax in axes for line in ax.lines)])
    return values[np.isfinite(values)]


def _log(ax: Axes, low: float, high: float) -> None:
    margin = (high / low) ** 0.06
    ax.set_yscale("log")
    ax.set_ylim(low / margin, high * margin)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}" if 1e-3 < y < 1e6 else f"{y:.0e}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _xy(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.asarray(data, dtype=float) for data in line.get_data())
    return x, y
