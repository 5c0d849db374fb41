"""How the figures draw: canvas, one arm's lines, axes that neither hide nor dramatise, one legend.

The layout is counted in inches rather than solved for: half the drawing time, and the same on every machine.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from mhc_repro.analysis import labels
from mhc_repro.evidence import stats
from mhc_repro.evidence.arms import BASELINE, style
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import Curves, envelope, mean, smooth, thin
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

WIDTH, PANEL = 8.6, 1.85  # inches: about what a page is wide; height of a panel without its labels
SETTLED = 0.1  # loss axes fit what comes after this fraction of a run: the fall from ln 256 would hide it
RUNAWAY = 0.9  # ... and before this fraction of a run that diverged, lest its end flatten the others
NEAR_ONE = 0.2, 5.0  # gains within stay on a linear axis (rows that sum to 1 allow n = 4) ...
CLOSEST = 0.9, 1.1  # ... that shows at least this much, so that rounding noise looks like what it is
LOG_FROM = 4.0  # a positive quantity that spans this factor gets a log axis
ROUNDING = 1e-12  # what is smaller is a 0 that float64 left
CROSS: dict[str, Any] = {"linestyle": "", "marker": "X", "markersize": 8, "markeredgecolor": "white"}


def canvas(
    comparison: Comparison, title: str, rows: int, columns: int, height: float = PANEL, of_seeds: str = ""
) -> tuple[Figure, np.ndarray]:
    """Make a figure headed by what it shows, its protocol and seeds, and its axes (rows, columns).

    `of_seeds` says how several are drawn, where that is not as lines are.
    """
    fewest, as_drawn = (2, of_seeds) if of_seeds else (stats.FEWEST, "thin: seeds, thick: their mean")
    seeds = f"; {as_drawn}" if len(comparison.seeds) >= fewest else ""
    which = f"study {comparison.study}, {labels.seeds_text(comparison)}{seeds}"
    return panels(f"{title}: {which}\n{labels.protocol(comparison)}", rows, columns, height)


def sub_layer(comparison: Comparison) -> str:
    """Label an axis of sub-layers, which in a model of one's own may be anything with a connection around it."""
    own = comparison.runs[0].config["model"]["own"]
    return "connection, in the order of the calls" if own else "sub-layer (odd: attention, even: MLP)"


def panels(title: str, rows: int, columns: int, height: float = PANEL) -> tuple[Figure, np.ndarray]:
    """Make a figure under a title of two lines, and its axes (rows, columns)."""
    figure = Figure(figsize=(WIDTH, 1.05 + rows * (height + 0.65)))
    head(figure, title)
    return figure, figure.subplots(rows, columns, squeeze=False)


def named(arm: str) -> str:
    """Label an arm's lines so that they can be found again; a legend passes over what begins so."""
    return f"_{arm}"


def reference(ax: Axes, value: float) -> None:
    """Draw where a baseline is by definition."""
    ax.axhline(value, **style(BASELINE).line(linewidth=0.9, zorder=1, label=named(BASELINE)))


def legend_columns(labels: Sequence[str]) -> int:
    """Choose the fewest columns in as few rows as fit the figure's width; 46 and 5 points: a key, a letter."""
    for columns in range(min(len(labels), 6), 1, -1):
        widest = (max(map(len, column)) for column in np.array_split(np.array(labels), columns))
        if sum(46 + 5 * letters for letters in widest) <= 72 * WIDTH:
            rows = ceil(len(labels) / columns)
            return ceil(len(labels) / rows)
    return 1


def head(figure: Figure, text: str) -> None:
    """Put a title of two lines into the upper left corner."""
    figure.suptitle(text, x=0.1 / WIDTH, y=1 - 0.06 / figure.get_figheight(), ha="left", va="top")


def finish(figure: Figure, comparison: Comparison, xlabel: str, notes: Sequence[Artist] = ()) -> None:
    """Add what all panels share: the x axis, crosses inside the frame, the legend, the margins."""
    for ax in figure.axes:
        ax.set_xlabel(xlabel)
        bottom, top = ax.get_ylim()
        for line in (line for line in ax.lines if line.get_gid() == "diverged"):
            line.set_ydata(np.clip(np.asarray(line.get_ydata(), dtype=float), bottom, top))
    drawn = [line for ax in figure.axes for line in ax.lines]
    labels = {line.get_label() for line in drawn}
    handles = [
        *(_key(arm, runs, comparison) for arm, runs in comparison.arms.items() if named(arm) in labels),
        *notes,
    ]
    few = {named(arm) for arm in partial(comparison)}
    for line in drawn:
        if line.get_label() in few:  # a few seeds beside many must not look like a finding
            width = min(line.get_linewidth(), 0.6)
            line.set(linewidth=width, markersize=2.5, visible=line.get_gid() != "raw")
    if any(line.get_gid() == "diverged" for ax in figure.axes for line in ax.lines):
        handles.append(Line2D([], [], **CROSS, color="0.3", label="diverged"))
    legend(figure, handles)


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """Add the legend below the panels, and margins that fit it."""
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    rows = ceil(len(handles) / columns)
    figure.legend(handles=handles, loc="lower center", ncols=columns, handlelength=2.6)
    height = figure.get_figheight() + 0.19 * (rows - 1)
    figure.set_figheight(height)
    figure.subplots_adjust(
        left=0.76 / WIDTH,
        right=1 - 0.08 / WIDTH,
        top=1 - 0.68 / height,
        bottom=(0.58 + 0.19 * rows) / height,
        wspace=0.2,
        hspace=0.72 / PANEL,
    )


def tick_layers(ax: Axes, layers: int) -> None:
    """Tick sub-layers: the first, and at most eight even ones."""
    every = max(2 * (layers // 8), 2)
    ax.xaxis.set_major_locator(FixedLocator([1, *range(every, layers + 1, every)]))


def noisy(ax: Axes, arm: str, runs: Sequence[Run], curves: Curves) -> None:
    """Draw what every batch shakes: the smoothed curves, and faint the raw ones while they are few."""
    if len(curves) < stats.FEWEST:
        for curve in map(envelope, curves.values()):
            ax.plot(
                curve.index,
                curve,
                color=style(arm).colour,
                linewidth=0.4,
                alpha=0.22,
                gid="raw",
                label=named(arm),
            )
    lines(ax, arm, runs, {seed: smooth(curve) for seed, curve in curves.items()}, marker="")


def points(ax: Axes, arm: str, curves: Curves) -> None:
    """Draw what was measured now and then, without a line: each seed, or their mean from three on."""
    own, average = style(arm), mean(curves)
    for curve in curves.values() if average is None else [average]:
        ax.plot(
            curve.index, curve, linestyle="", marker=own.marker, color=own.colour, gid="val", label=named(arm)
        )


def lines(
    ax: Axes, arm: str, runs: Sequence[Run], curves: Curves, *, band: bool = False, **changes: Any
) -> None:
    """Draw one arm: its seeds, their mean from three on, and a cross for each diverged run of `runs`."""
    own, average = style(arm), mean(curves)
    look = own.line(**{"marker": own.marker, "label": named(arm), **changes})
    seed = {} if average is None else {"linewidth": 0.5, "alpha": 0.5, "marker": "", "gid": "seed"}
    for curve in map(thin, curves.values()):
        ax.plot(curve.index, curve, markevery=_markers(curve), **{**look, **seed})
    if average is not None:
        average = thin(average)
        ax.plot(average.index, average, markevery=_markers(average), **{**look, "gid": "mean"})
        if band:
            known = [curve.reindex(average.index) for curve in curves.values() if len(curve)]
            centre, half = stats.t_interval(known)
            ax.fill_between(average.index, centre - half, centre + half, color=own.colour, alpha=0.15, lw=0)
    for run in runs:
        if run.state == "diverged" and len(curves.get(run.seed, ())):
            place = [run.status["step"]], [curves[run.seed].iloc[-1]]
            ax.plot(
                *place, **CROSS, color=own.colour, label=named(arm), gid="diverged", clip_on=False, zorder=5
            )


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
    values = np.append(_finite(axes), 1.0)
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
    values = _finite([ax])
    if len(values) and ROUNDING < values.min() < values.max() / LOG_FROM:
        _log(ax, values.min(), values.max())


def fit_from_zero(ax: Axes) -> None:
    """Put what may be exactly 0 on a log axis that has a 0: linear below the smallest value there is."""
    values = np.abs(_finite([ax]))
    values = values[values > 0]
    low, high = (np.floor(np.log10(values.min())), np.log10(values.max())) if len(values) else (-1.0, 0.0)
    ax.set_yscale("symlog", linthresh=10**low, linscale=0.4)
    ax.set_ylim(-(10**low) / 4, 10 ** (high + 0.3))
    powers = np.arange(low, high + 0.3, max(np.ceil((high - low) / 5), 1))
    ax.set_yticks([0, *10**powers], ["0", *(f"$10^{{{power:.0f}}}$" for power in powers)])
    ax.minorticks_off()


def _log(ax: Axes, low: float, high: float) -> None:
    margin = (high / low) ** 0.06
    ax.set_yscale("log")
    ax.set_ylim(low / margin, high * margin)
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}" if 1e-3 < y < 1e6 else f"{y:.0e}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _finite(axes: Sequence[Axes]) -> np.ndarray:
    """Collect what the lines of some axes show, where it is finite."""
    values = np.concatenate([np.empty(0), *(_xy(line)[1] for ax in axes for line in ax.lines)])
    return values[np.isfinite(values)]


def _xy(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.asarray(data, dtype=float) for data in line.get_data())
    return x, y


def _markers(curve: Any) -> int:
    return 1 if len(curve) <= 32 else len(curve) // 8


def label(arm: str, runs: Sequence[Run]) -> str:
    """Name an arm and what its runs were found to be, with their number where it is not all."""
    flags = []
    for flag in ("dead", "off the constraint", "control"):
        flagged = sum(flag in dict(verdict(run).notes()) for run in runs)
        if flagged:
            flags.append(flag if flagged == len(runs) else f"{flagged} of {len(runs)} runs {flag}")
    name = style(arm).label
    return f"{name} ({', '.join(flags)})" if flags else name


def partial(comparison: Comparison) -> list[str]:
    """List the arms that have fewer seeds than another of which a mean is drawn."""
    seeds = {arm: len({run.seed for run in runs}) for arm, runs in comparison.arms.items()}
    most = max(seeds.values(), default=0)
    return [arm for arm, count in seeds.items() if count < most] if most >= stats.FEWEST else []


def counted(arm: str, runs: Sequence[Run], comparison: Comparison) -> str:
    """Label an arm, with the number of its seeds where others have more."""
    few = f", n = {len({run.seed for run in runs})}" if arm in partial(comparison) else ""
    return label(arm, runs) + few


def _key(arm: str, runs: Sequence[Run], comparison: Comparison) -> Line2D:
    own = style(arm)
    return Line2D([], [], **own.line(marker=own.marker, label=counted(arm, runs, comparison)))
