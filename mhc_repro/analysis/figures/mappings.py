"""H_res as pictures, in the manner of Figure 8 of the mHC paper: token means of sub-layers and of composites.

Of one run an arm, since the mean of two seeds' matrices is a matrix that no run applied. One colour scale for
all panels: pale at 0, strong at 1, and from there on darker with the logarithm, up to a power of ten that
holds the largest entry. So a composite of HC and one of mHC can be compared by eye.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure

from mhc_repro.analysis import labels, theme
from mhc_repro.analysis.figures import drawing
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.composites import matrices
from mhc_repro.evidence.styles import style
from mhc_repro.runs import Run

CAPTION = (
    "H_res at the last probe of one run an arm, averaged over the probe's tokens: single sub-layers, and the "
    "composites from the input to the middle and to the end. Right of each matrix its row sums (forward), below "
    "it its column sums (backward); bold: the largest absolute one, which is the amax gain."
)
KEYS = ("h_single", "h_forward")
NOTE = "Right: row sums (forward). Below: column sums (backward).\nBold: the largest absolute one, the amax gain."
EMPTY = "No run of an arm with several streams has been probed."
MOST = 4  # arms that get all their pictures with every number; more arms get two each, and the sums alone
ONE = 0.7  # how far from pale an entry of 1 is
LEAST = 10.0  # the scale ends there or later
COLOURS = "RdBu_r"
LEFT, GAP, HEAD, LABEL, TITLE, FOOT = 0.1, 0.14, 0.55, 0.26, 0.2, 0.6  # inches
CELL = 0.34  # inches, at most


@dataclass(frozen=True)
class Picture:
    """One matrix of the gains table: its column there, and its sub-layer."""

    key: str  # h_single | h_forward
    layer: int

    @property
    def title(self) -> str:
        first = "" if self.key == "h_single" or self.layer == 1 else r" \cdots H_1"
        return f"$H_{{{self.layer}}}{first}$"


def pictures(layers: int, few: bool = False) -> list[Picture]:
    """Choose: the first, the middle and the last sub-layer, the composites up to the middle and to the end.

    Of `few`, the middle one and the composite to the end.
    """
    middle = max(layers // 2, 1)
    if few:
        return [Picture("h_single", middle), Picture("h_forward", layers)]
    singles = [Picture("h_single", layer) for layer in dict.fromkeys((1, middle, layers))]
    return singles + [Picture("h_forward", layer) for layer in (middle, layers) if layer > 1]


def last_probe(run: Run) -> int | None:
    """Return the step of the last whole probe whose matrices are finite, None when there is none."""
    for step in [] if run.gains.empty else sorted(run.gains["step"].unique(), reverse=True):
        found = [matrices(run, step, key) for key in KEYS]
        if all(len(each) == run.layers and np.isfinite(each).all() for each in found):
            return int(step)
    return None


def strength(value: np.ndarray, end: float) -> np.ndarray:
    """Map entries to -1..1: linear up to ONE at 1, then logarithmic up to 1 at `end`."""
    size = np.abs(value)
    beyond = ONE + (1 - ONE) * np.log10(np.maximum(size, 1.0)) / log10(end)
    return np.sign(value) * np.minimum(np.where(size <= 1, ONE * size, beyond), 1.0)


@theme.styled
def mappings(comparison: Comparison) -> Figure:
    """Draw the matrices of each arm with several streams, of its first seed."""
    runs = {arm: of_arm[0] for arm, of_arm in comparison.arms.items() if of_arm[0].n > 1}
    steps = {arm: step for arm, run in runs.items() if (step := last_probe(run)) is not None}
    few = len(steps) > MOST
    chosen = pictures(comparison.runs[0].layers, few)
    found = {
        arm: {each: matrices(runs[arm], step, each.key)[each.layer - 1] for each in chosen}
        for arm, step in steps.items()
    }
    end = _end([each for of_arm in found.values() for each in of_arm.values()])
    streams = {arm: runs[arm].n for arm in steps}
    widest = max(streams.values(), default=0)
    columns = {arm: _columns(widest if few else n, few) for arm, n in streams.items()}
    beside = _columns(widest, few) // len(chosen) if few else 1  # arms side by side
    lines = [list(steps)[at : at + beside] for at in range(0, len(steps), beside)]
    heights = [max(_height(found[arm], streams[arm], columns[arm]) for arm in line) for line in lines]
    figure = Figure(figsize=(drawing.WIDTH, HEAD + (sum(heights) or LABEL) + FOOT))
    last = max(steps.values(), default=None)
    drawing.head(figure, _title(comparison, last))
    top = HEAD
    for line, height in zip(lines, heights, strict=True):
        for place, arm in enumerate(line):
            left = LEFT + place * (drawing.WIDTH - LEFT) / beside
            look: dict[str, Any] = {"weight": "bold", "size": 7.5 if few else 9}
            words = _label(arm, runs[arm], steps[arm], comparison.seeds[0], last)
            _write(figure, left, top, words, color=style(arm).colour, **look)
            _row(figure, left, top + LABEL, columns[arm], found[arm], end, numbers=not few)
        top += height
    if steps:
        _legend(figure, end)
    else:
        _write(figure, LEFT, HEAD, EMPTY)
    return figure


Found = Mapping[Picture, np.ndarray]


def _row(
    figure: Figure, left: float, top: float, columns: int, found: Found, end: float, numbers: bool
) -> None:
    """Draw an arm's matrices, each under its name, from a place in inches on."""
    for at, (picture, values) in enumerate(found.items()):
        cell = _cell(len(values), columns)
        side = cell * (len(values) + 1)
        x = left + at % columns * (drawing.WIDTH - LEFT) / columns
        y = top + at // columns * (TITLE + side + GAP)
        _write(figure, x, y, picture.title)
        ax = _axes(figure, x, y + TITLE, side, side)
        _draw(ax, values, end, size=min(0.29 * 72 * cell, 8.0), numbers=numbers)


def _columns(n: int, few: bool) -> int:
    return (6 if n <= 4 else 4) if few else (5 if n <= 4 else 3)


def _cell(n: int, columns: int) -> float:
    return min(CELL, ((drawing.WIDTH - LEFT) / columns - GAP) / (n + 1))


def _height(found: Found, n: int, columns: int) -> float:
    """Add up what an arm's matrices need, in inches."""
    return LABEL + ceil(len(found) / columns) * (TITLE + _cell(n, columns) * (n + 1) + GAP)


def _title(comparison: Comparison, step: int | None) -> str:
    seeds = comparison.seeds
    which = (
        labels.seeds_text(comparison) if len(seeds) == 1 else f"seed {seeds[0]}, the first of {len(seeds)}"
    )
    when = "" if step is None else f" (step {step})"
    title = f"H_res at the last probe{when}, token mean: study {comparison.study}, {which}"
    return f"{title}\n{labels.protocol(comparison)}"


def _label(arm: str, run: Run, step: int, seed: int, last: int | None) -> str:
    """Name an arm, and in what its run or its probe is not as the title says."""
    words = [f"seed {run.seed}"] if run.seed != seed else []
    words += [f"step {step}"] if step != last else []
    words += [f"diverged at {run.status['step']}"] if run.state == "diverged" else []
    # then column sums are no gains
    words += [] if run.probe(step)["single_backward"].any() else ["no gradient passes"]
    return ": ".join(filter(None, [drawing.label(arm, [run]), ", ".join(words)]))


def _end(found: Sequence[np.ndarray]) -> float:
    """Choose the end of the colour scale."""
    largest = max((float(np.abs(each).max()) for each in found), default=0.0)
    return max(LEAST, 10.0 ** ceil(log10(max(largest, 1.0))))


def _draw(ax: Axes, values: np.ndarray, end: float, size: float, numbers: bool) -> None:
    n = len(values)
    norm = FuncNorm((lambda v: strength(v, end), lambda v: v), vmin=-end, vmax=end)
    mesh = ax.pcolormesh(values, cmap=COLOURS, norm=norm, edgecolors="white", linewidth=0.6)
    ax.set(xlim=(0, n + 1), ylim=(n + 1, 0))
    ax.set_axis_off()
    for (i, j), value in np.ndenumerate(values):
        if numbers:
            ink = _ink(mesh.to_rgba(value))
            ax.text(j + 0.5, i + 0.5, text(value), size=size, color=ink, ha="center", va="center", gid="cell")
    for axis, gid in ((1, "row"), (0, "column")):
        sums = values.sum(axis)
        largest = text(np.abs(sums).max())
        for at, value in enumerate(sums):
            x, y = (n + 0.5, at + 0.5) if axis else (at + 0.5, n + 0.5)
            weight = "bold" if text(abs(value)) == largest else "normal"
            ax.text(x, y, text(value), size=size, weight=weight, ha="center", va="center", gid=gid)


def text(value: float) -> str:
    """Print a number in five characters at most."""
    size = abs(value)
    if size >= 99_999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("-", "−")
    printed = f"{value:.{2 if size < 9.995 else 1 if size < 99.95 else 0}f}"
    return printed.removeprefix("-") if not float(printed) else printed.replace("-", "−")


def _ink(colour: Any) -> str:
    """Choose black or white, whichever is easier to read on a colour (contrast of WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.179 else "black"


def _legend(figure: Figure, end: float) -> None:
    """Add the colour scale, and what stands at the edges of a matrix."""
    height = figure.get_figheight()
    ax = _axes(figure, LEFT + 0.15, height - FOOT + 0.2, 2.6, 0.12)
    edges = np.linspace(-1, 1, 42)
    ax.pcolormesh(edges, [0, 1], [(edges[1:] + edges[:-1]) / 2], cmap=COLOURS, vmin=-1, vmax=1)
    last = f"{end:g}" if end <= 100 else f"10^{{{round(log10(end))}}}"
    ticks = np.array([-end, -1.0, 0.0, 1.0, end])
    ax.set_xticks(strength(ticks, end), [f"${words}$" for words in (f"-{last}", "-1", "0", "1", last)])
    ax.set_yticks([])
    ax.grid(False)
    _write(figure, 3.3, height - FOOT + 0.14, NOTE)


def _axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the upper left corner."""
    full = figure.get_figheight()
    inches = (x / drawing.WIDTH, 1 - (y + height) / full, width / drawing.WIDTH, height / full)
    return figure.add_axes(inches)


def _write(figure: Figure, x: float, y: float, words: str, **look: Any) -> None:
    figure.text(x / drawing.WIDTH, 1 - y / figure.get_figheight(), words, va="top", **look)
