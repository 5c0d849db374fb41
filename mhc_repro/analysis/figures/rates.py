"""Held-out bits against a rate that a study sweeps: where each arm is best, where it breaks, and what it gains."""

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.sweeps import LR, MAPS_LR, SWEPT, Sweep

NAMES = {LR: "rates", MAPS_LR: "map-rates"}
# Of a step of the grid: from one arm to the next, and at most from the first to the last
BESIDE, SPREAD = 0.04, 0.2
HEIGHT = 2.6  # inches, of a panel


def caption(key: str) -> str:
    """Explain the figure."""
    return (
        f"Held-out bits per character at the end against the {SWEPT[key]}: marks are runs, arm beside arm about "
        "their rate; a line joins the medians over the seeds, and breaks where most of them diverged. Below, the "
        f"same minus those of the first arm with the same seed: linear up to {scales.LINEAR:g}, logarithmic "
        "beyond; grey: no more than a run repeated differs by. Crosses at the upper edge: runs that diverged, "
        "with their number where there are several seeds."
    )


@theme.styled
def rates(comparison: Comparison, key: str) -> Figure:
    """Draw the bits of all runs of a sweep over `key` against its rates, and minus the first main arm's."""
    sweep, (first, *_) = Sweep(key, comparison), main_arms(comparison.study)
    bits = {arm: pd.DataFrame(sweep.bits(arm), index=sweep.grid) for arm in comparison.arms}
    gaps = {arm: found - bits[first] for arm, found in bits.items()} if first in bits else {}
    title, drawn = f"Bits by {SWEPT[key]}", "marks: seeds, line: their median"
    figure, axes = drawing.canvas(comparison, title, 1 + (len(gaps) > 1), 1, HEIGHT, of_seeds=drawn)
    notes = []
    ax = axes[0, 0]
    _panel(ax, bits, sweep.grid)
    ax.set(title="Held-out bits per character at the end", ylabel="bits per character")
    if sweep.broken < ax.get_ylim()[1]:
        ax.axhline(sweep.broken, color="0.5", linestyle=":", linewidth=1.1, zorder=1, gid="frequencies")
        notes.append(Line2D([], [], color="0.5", linestyle=":", label="frequencies of bytes alone"))
    for ax in axes[1:, 0]:
        drawing.reference(ax, 0.0, first)
        _panel(ax, gaps, sweep.grid)
        drawing.noise(ax, comparison)
        scales.fit_signed(ax)
        ax.set(
            title=f"The same − {style(first).label}'s, paired by seed; below 0: better",
            ylabel=f"bits (linear to {scales.LINEAR:g}, then log)",
        )
    drawing.finish(figure, comparison, xlabel=SWEPT[key], notes=notes)
    figure.subplots_adjust(hspace=0.72 / HEIGHT)
    return figure


def _panel(ax: Axes, shown: Mapping[str, pd.DataFrame], grid: list[float]) -> None:
    """Draw numbers of several arms, a row for each rate and a column for each seed; infinite: it diverged."""
    step = (grid[-1] / grid[0]) ** (min(BESIDE, SPREAD / len(shown)) / (len(grid) - 1))
    for place, (arm, found) in enumerate(shown.items()):
        _draw(ax, arm, found, beside=step ** (place - (len(shown) - 1) / 2))
    ax.margins(y=0.1 if any(found.eq(inf).any(axis=None) for found in shown.values()) else 0.05)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(grid))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def _draw(ax: Axes, arm: str, bits: pd.DataFrame, beside: float) -> None:
    """Draw an arm's marks, beside their rates by a factor, and its medians at them."""
    own, label = style(arm), drawing.named(arm)
    for _, of_seed in bits.items():
        known = of_seed[np.isfinite(of_seed)]
        look: dict[str, Any] = {"color": own.colour, "alpha": 0.7, "markersize": 3.5}
        ax.plot(known.index * beside, known, own.marker, gid="seed", label=label, **look)
    middle = bits.median(axis=1)
    middle = middle.where(np.isfinite(middle))
    ax.plot(middle.index, middle, **own.line(gid="median", label=label, linewidth=1.0))
    place: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points"}
    words: dict[str, Any] = {"color": own.colour, "gid": "diverged", "ha": "center", "size": 7.5}
    lost = bits.eq(inf).sum(axis=1)
    for rate, count in zip(lost.index[lost > 0], lost[lost > 0], strict=True):
        drawing.cross(ax, arm, rate * beside, inf, label=label)
        if bits.shape[1] > 1:  # seeds
            ax.annotate(f"{count}", (rate * beside, 1.0), (0, -13), **place, **words)
