"""What of the depth a net hears, in terms that no change of the streams' basis moves: kernel, shares, ablations."""

from collections.abc import Sequence
from math import ceil, isfinite, nan
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from mhc_repro.analysis import printed, theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence import ledger
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import curves
from mhc_repro.evidence.heard import k_hat
from mhc_repro.evidence.ledger import LEDGER
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.runs import Run

KERNEL = (
    "Depth kernel at the last probe, mean over tokens and seeds: the weight at which a sub-layer (row, the readout "
    "r last) reads the output of each before it (column, the embedding e first), over the mean of its row. A "
    "residual net weighs all alike, 1 everywhere. No weight can be larger than the number of outputs, where the "
    "scale ends at the latest."
)
RESIDUAL = "residual net, by definition"
CLOSEST = 1.1  # the scale reaches at least this far from 1: rounding noise shall look white
COLOURS = "RdBu_r"  # blue below 1, white at 1, red above
NOTHING = "0.9"  # above the diagonal
SIDE = 1.75  # inches, of a heat map


@theme.styled
def kernel(comparison: Comparison) -> Figure:
    """Draw each arm's K-hat as a heat map, rows who reads, on one logarithmic scale around 1."""
    found = {arm: k_hat(runs) for arm, runs in comparison.arms.items()}
    squares = {arm: square for arm, square in found.items() if square is not None}
    names = {arm: _named(arm, comparison) for arm in squares}
    if BASELINE not in squares:
        outputs = comparison.runs[0].layers + 1
        squares = {RESIDUAL: np.where(np.tri(outputs) > 0, 1.0, np.nan)} | squares
        names[RESIDUAL] = RESIDUAL
    columns = 3 if len(squares) <= 6 else 4
    rows = ceil(len(squares) / columns)
    figure, axes = drawing.canvas(comparison, "Depth kernel", rows, columns, SIDE, of_seeds="their mean")
    # No weight is larger than that of a reader who hears one output alone.
    values = np.concatenate([square[np.isfinite(square)] for square in squares.values()])
    furthest = float(np.exp(np.abs(np.log(values[values > 0])).max()))
    end = min(max(CLOSEST, furthest), max(map(len, squares.values())))
    for ax, (arm, square) in zip(axes.flat, squares.items(), strict=False):
        _heat_map(ax, square, LogNorm(1 / end, end))
        colour = style(arm).colour if arm != RESIDUAL else style(BASELINE).colour
        ax.set_title(names[arm], color=colour, size=8)
    for ax in axes.flat[len(squares) :]:
        ax.remove()
    for ax in axes[:, 0]:
        ax.set_ylabel("who reads")
    _scale(figure, end, clipped=bool(values.min() < 0.99 / end))
    return figure


def _heat_map(ax: Axes, square: np.ndarray, norm: LogNorm) -> None:
    shown = np.ma.masked_invalid(np.clip(square, norm.vmin, norm.vmax))
    # an edge of the cell's own colour, lest a browser shows seams
    ax.pcolormesh(shown, cmap=COLOURS, norm=norm, edgecolors="face", linewidth=0.3)
    ax.set(facecolor=NOTHING, xlim=(0, len(square)), ylim=(len(square), 0), xlabel="whose output")
    ax.grid(False)
    layers = len(square) - 1
    every = scales.layer_step(layers)
    inner = list(range(every, layers - every // 2 + 1, every))
    ax.set_xticks([0.5, *(layer + 0.5 for layer in inner)], ["e", *map(str, inner)])
    ax.set_yticks([*(layer - 0.5 for layer in inner), layers + 0.5], [*map(str, inner), "r"])


def _scale(figure: Figure, end: float, clipped: bool) -> None:
    """Put the margins, and the colour scale where the other figures have a legend."""
    drawing.legend(figure, [])
    height = figure.get_figheight()
    figure.subplots_adjust(bottom=0.98 / height, hspace=0.72 / SIDE, wspace=0.28)
    ax = figure.add_axes((0.3, 0.34 / height, 0.4, 0.11 / height), gid="scale")
    edges = np.geomspace(1 / end, end, 60)
    middles = np.sqrt(edges[1:] * edges[:-1])[None]
    ax.pcolormesh(edges, [0, 1], middles, cmap=COLOURS, norm=LogNorm(1 / end, end), edgecolors="face")
    ax.set(xscale="log", xlim=(1 / end, end), yticks=[])
    ticks = [1 / end, end**-0.5, 1.0, end**0.5, end]
    words = [f"{'≤ ' if clipped else ''}{ticks[0]:.2g}", *(f"{weight:.2g}" for weight in ticks[1:])]
    ax.set_xticks(ticks, words)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.grid(False)
    figure.text(0.29, 0.4 / height, "weight over its row's mean", ha="right", va="center", size=8.5)


SHARES = (
    "Shares in what the readout reads, over training: of the last quarter of the sub-layers, and of the first. The "
    "embedding's is in neither. A cross marks where a run diverged."
)


@theme.styled
def shares(comparison: Comparison) -> Figure:
    """Draw the late share and its mirror over training."""
    figure, axes = drawing.canvas(comparison, "What the readout hears", rows=1, columns=2, height=2.4)
    titles = {"late": "(a) Late share: the last quarter", "early": "(b) Its mirror: the first quarter"}
    for ax, (end, title) in zip(axes.flat, titles.items(), strict=True):
        for arm, runs in comparison.arms.items():
            drawing.lines(ax, arm, runs, curves(runs, f"kernel/{end}_share"))
        ax.set(title=title, ylabel="of what is read")
    top = max(ax.get_ylim()[1] for ax in axes.flat)
    for ax in axes.flat:
        ax.set_ylim(0, top)
    drawing.finish(figure, comparison, xlabel="step")
    return figure


ABLATION = (
    "How far the validation loss at the end rises when the last sub-layers mix the streams and write nothing: the "
    "last quarter dark, the last half pale. Bars: mean over seeds; points: seeds. –: no run came to "
    "its end."
)
# Of the ledger, what they are called, and how dark they are
PARTS = (("lost_last_quarter", "the last quarter", 1.0), ("lost_last_half", "the last half", 0.4))
BAR, THIN = 0.36, 0.16  # of an arm's place; thin: fewer seeds than others
PLACE = 0.36  # inches an arm


@theme.styled
def ablation(comparison: Comparison) -> Figure:
    """Draw what each arm loses without its last quarter and its last half, as bars, an arm a group."""
    few = drawing.with_fewer_seeds(comparison)
    height = 0.3 + PLACE * len(comparison.arms)
    figure, axes = drawing.canvas(
        comparison, "Lost without the end", 1, 1, height, of_seeds="bar: mean, points: seeds"
    )
    ax = axes[0, 0]
    for place, (arm, runs) in enumerate(comparison.arms.items()):
        for side, (name, _, alpha) in zip((-0.5, 0.5), PARTS, strict=True):
            _bar(ax, place + BAR * side, arm, runs, name, THIN if arm in few else BAR, alpha)
    ax.set_yticks(range(len(comparison.arms)), [_named(arm, comparison) for arm in comparison.arms])
    ax.set(ylim=(len(comparison.arms) - 0.5, -0.5), title="Added to the validation loss")
    ax.grid(False, axis="y")
    ax.margins(x=0.15)  # for the numbers
    ax.axvline(0.0, color="0.3", linewidth=0.7)
    notes = [Patch(color="0.2", alpha=alpha, label=f"without {part}") for _, part, alpha in PARTS]
    drawing.finish(figure, comparison, xlabel="nats per symbol", notes=notes)
    longest = max(map(len, (label.get_text() for label in ax.get_yticklabels())))
    figure.subplots_adjust(left=(0.3 + 0.075 * longest) / drawing.WIDTH)
    return figure


def _bar(
    ax: Axes, place: float, arm: str, runs: Sequence[Run], name: str, width: float, alpha: float
) -> None:
    lost = [value for value in ledger.of(runs, name) if isfinite(value)]
    look: dict[str, Any] = {"color": style(arm).colour, "gid": name}
    mean = fmean(lost) if lost else nan
    if lost:
        ax.barh(place, mean, width, alpha=alpha, **look)
    if len(lost) > 1:
        ax.plot(
            lost, [place] * len(lost), "o", markersize=3.5, markerfacecolor="white", color="black", gid=name
        )
    number, end = printed.number(mean, LEDGER[name].decimals), max(lost, default=0.0)
    number = f"mean {number}" if len(lost) > 1 else number
    ax.annotate(number, (end, place), (3, 0), textcoords="offset points", va="center", size=7.5, gid=name)


def _named(arm: str, comparison: Comparison) -> str:
    return drawing.counted(arm, comparison.arms[arm], comparison)
