"""Held-out bits against a rate that a study sweeps: where each arm is best, and where it breaks."""

from math import inf
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing
from mhc_repro.evidence.arms import style
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.sweeps import DRAWN, LR, MAPS_LR, SWEPT, Sweep

NAMES = {LR: "rates", MAPS_LR: "map-rates"}
SPREAD = 0.12  # of a step of the grid: so far apart lie the crosses of two arms at one rate


def caption(key: str) -> str:
    """Explain the figure."""
    few = ", ".join(f"{rate:g}" for rate in DRAWN[key])
    return (
        f"Held-out bits per character at the end against the {SWEPT[key]}: points are runs, a line joins the means "
        "over the seeds, and breaks where one of them diverged. Crosses at the upper edge, the arms side by side: "
        "runs that diverged, with their number where there are several seeds. The other figures show, of these "
        f"rates, {few}."
    )


@theme.styled
def rates(comparison: Comparison, key: str) -> Figure:
    """Draw the bits of all runs of a sweep over `key` against its rates, the axis of rates logarithmic."""
    sweep = Sweep(key, comparison)
    seeds = "points: seeds, line: their mean"
    figure, axes = drawing.canvas(comparison, f"Bits by {SWEPT[key]}", 1, 1, height=3.4, of_seeds=seeds)
    ax = axes[0, 0]
    step = (sweep.grid[-1] / sweep.grid[0]) ** (SPREAD / (len(sweep.grid) - 1))
    bits = {arm: pd.DataFrame(sweep.bits(arm), index=sweep.grid) for arm in comparison.arms}
    lost = [arm for arm, found in bits.items() if found.eq(inf).any(axis=None)]
    for arm, found in bits.items():
        _draw(ax, arm, found)
    ax.margins(y=0.1 if lost else 0.05)  # for the numbers under the crosses
    for place, arm in enumerate(lost):
        _cross(
            ax,
            arm,
            bits[arm].eq(inf).sum(axis=1),
            step ** (place - (len(lost) - 1) / 2),
            len(comparison.seeds),
        )
    ax.set(title="Held-out bits per character at the end", ylabel="bits per character", xscale="log")
    ax.xaxis.set_major_locator(FixedLocator(sweep.grid))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    notes = []
    if sweep.broken < ax.get_ylim()[1]:
        ax.axhline(sweep.broken, color="0.5", linestyle=":", linewidth=1.1, zorder=1, gid="frequencies")
        notes.append(Line2D([], [], color="0.5", linestyle=":", label="frequencies of bytes alone"))
    drawing.finish(figure, comparison, xlabel=SWEPT[key], notes=notes)
    return figure


def _draw(ax: Axes, arm: str, bits: pd.DataFrame) -> None:
    """Draw an arm's `bits`, a row for each rate and a column for each seed."""
    own, label = style(arm), drawing.named(arm)
    for _, of_seed in bits.items():
        known = of_seed[np.isfinite(of_seed)]
        look: dict[str, Any] = {"color": own.colour, "alpha": 0.6, "markersize": 3}
        ax.plot(known.index, known, own.marker, gid="seed", label=label, **look)
    average = bits.mean(axis=1)
    average = average.where(np.isfinite(average))
    ax.plot(average.index, average, **own.line(gid="mean", label=label))


def _cross(ax: Axes, arm: str, lost: pd.Series, aside: float, seeds: int) -> None:
    """Draw, for each rate, that runs of an arm were lost; finish() brings the crosses down to the upper edge."""
    look: dict[str, Any] = {"color": style(arm).colour, "gid": "diverged"}
    for rate, count in zip(lost.index * aside, lost, strict=True):
        if count:
            named: dict[str, Any] = {"label": drawing.named(arm), "clip_on": False, "zorder": 5}
            ax.plot([rate], [inf], **drawing.CROSS, **look, **named)
        if count and seeds > 1:
            place: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
            ax.annotate(f"{count}", (rate, 1.0), (0, -13), **place, **look, ha="center", size=7.5)
