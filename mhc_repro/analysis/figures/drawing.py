"""How the figures draw: canvas, one arm's lines, one legend; what their axes show is in `scales`.

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

from mhc_repro.analysis import labels
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import Curves, envelope, mean, smooth, thin
from mhc_repro.evidence.ledger import LEDGER
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

WIDTH, PANEL = 8.6, 1.85  # inches: about what a page is wide; height of a panel without its labels
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
    if comparison.runs[0].own:
        return "connection, in the order of the calls"
    return "sub-layer (odd: attention, even: MLP)"


def panels(title: str, rows: int, columns: int, height: float = PANEL) -> tuple[Figure, np.ndarray]:
    """Make a figure under a title of two lines, and its axes (rows, columns)."""
    figure = Figure(figsize=(WIDTH, 1.05 + rows * (height + 0.65)))
    head(figure, title)
    return figure, figure.subplots(rows, columns, squeeze=False)


def named(arm: str) -> str:
    """Label an arm's lines so that they can be found again; a legend passes over what begins so."""
    return f"_{arm}"


def reference(ax: Axes, value: float, arm: str = BASELINE) -> None:
    """Draw where an arm is by definition."""
    ax.axhline(value, **style(arm).line(linewidth=0.9, zorder=1, label=named(arm)))


def noise(ax: Axes, comparison: Comparison) -> None:
    """Shade differences of held-out bits that are no larger than those of a run repeated."""
    band = LEDGER["bpc"].noise_of(comparison.kind.layers)
    ax.axhspan(-band, band, color="0.92", zorder=0)


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
    few = {named(arm) for arm in with_fewer_seeds(comparison)}
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


def noisy(ax: Axes, arm: str, runs: Sequence[Run], curves: Curves) -> None:
    """Draw what every batch shakes: the smoothed curves, and faint the raw ones while they are few."""
    if len(curves) < stats.FEWEST:
        look: dict[str, Any] = {"color": style(arm).colour, "linewidth": 0.4, "alpha": 0.22}
        for curve in map(envelope, curves.values()):
            ax.plot(curve.index, curve, **look, gid="raw", label=named(arm))
    lines(ax, arm, runs, {seed: smooth(curve) for seed, curve in curves.items()}, marker="")


def points(ax: Axes, arm: str, curves: Curves) -> None:
    """Draw what was measured now and then, without a line: each seed, or their mean from three on."""
    own, average = style(arm), mean(curves)
    look: dict[str, Any] = {"linestyle": "", "marker": own.marker, "color": own.colour}
    for curve in curves.values() if average is None else [average]:
        ax.plot(curve.index, curve, **look, gid="val", label=named(arm))


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
            cross(ax, arm, run.status["step"], curves[run.seed].iloc[-1], label=named(arm))


def cross(ax: Axes, arm: str, x: float, y: float, **look: Any) -> None:
    """Mark where a run of an arm diverged; `finish` brings the mark down to the upper edge."""
    ax.plot([x], [y], **CROSS, color=style(arm).colour, gid="diverged", clip_on=False, zorder=5, **look)


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


def with_fewer_seeds(comparison: Comparison) -> list[str]:
    """List the arms that have fewer seeds than another of which a mean is drawn."""
    seeds = {arm: len({run.seed for run in runs}) for arm, runs in comparison.arms.items()}
    most = max(seeds.values(), default=0)
    return [arm for arm, count in seeds.items() if count < most] if most >= stats.FEWEST else []


def counted(arm: str, runs: Sequence[Run], comparison: Comparison) -> str:
    """Label an arm, with the number of its seeds where others have more."""
    seeds = len({run.seed for run in runs})
    few = f", {seeds} seed{'s' * (seeds > 1)}" if arm in with_fewer_seeds(comparison) else ""
    return label(arm, runs) + few


def _key(arm: str, runs: Sequence[Run], comparison: Comparison) -> Line2D:
    own = style(arm)
    return Line2D([], [], **own.line(marker=own.marker, label=counted(arm, runs, comparison)))
