"""What a connection costs by width, streams and tokens: the figure of `experiments/bench.py --scaling`."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing
from mhc_repro.bench.records import Record, machine_text
from mhc_repro.evidence.styles import OTHER_COLOURS, OTHER_MARKERS, style
from mhc_repro.places import FIGURES

PATH = f"{FIGURES}/bench-scaling.svg"
CAPTION = (
    "Step time and peak memory over the baseline's, by width, streams and tokens (bars: smallest to largest "
    "round). Faint: what the counted extra FLOPs and bytes need at the measured matrix-product and copy speeds."
)
COUNTED: dict[str, Any] = {"linestyle": (0, (1, 1)), "alpha": 0.7}


@theme.styled
def scaling(record: Record) -> Figure:
    """Draw step ratio and peak memory against dim, and against tokens."""
    table = pd.DataFrame(record["points"])
    centre = table["tokens"].mode()[0]  # the grid of dim and n is at one number of tokens
    by_dim = table[table["tokens"] == centre]
    others = table[table["tokens"] != centre]
    place = others[["dim", "n"]].drop_duplicates()
    by_tokens = table.merge(place, on=["dim", "n"])
    blocks = record["setting"]["model"]["blocks"]
    measured = (
        f"{blocks} blocks, {record['rounds']} rounds (bars: smallest to largest); {machine_text(record)}"
    )
    title = f"Cost of a training step beside the baseline's\n{measured}"
    figure, axes = drawing.panels(title, rows=2, columns=2)
    for (top, bottom), chosen, key, name in zip(
        axes.T, (by_dim, by_tokens), ("dim", "tokens"), (f"dim, at {centre:,} tokens", "tokens"), strict=True
    ):
        _draw(top, chosen, key, "step_ratio")
        _draw(bottom, chosen, key, "peak_memory_ratio")
        top.set(title=f"Step time by {name}", ylabel="× baseline")
        bottom.set(title=f"Peak memory by {name}", ylabel="× baseline")
        for ax in (top, bottom):
            _log2(ax, sorted(chosen[key].unique()))
    labels = dict.fromkeys(zip(table["connection"], table["n"], strict=True))
    handles = [Line2D([], [], **_look(arm, n), label=f"{style(arm).label}, n = {n}") for arm, n in labels]
    handles.append(Line2D([], [], color="0.4", linewidth=0.8, **COUNTED, label="counted work"))
    drawing.legend(figure, handles)
    return figure


def part(folder: str) -> str:
    """Write what a page shows of the figure; `folder` is the results root from there."""
    return f"![{CAPTION}]({folder}{PATH})\n\n{CAPTION}"


def _draw(ax: Axes, table: pd.DataFrame, key: str, value: str) -> None:
    for (arm, n), rows in table.sort_values(key).groupby(["connection", "n"]):
        look = _look(str(arm), n)
        ax.plot(rows[key], rows[value], **look)
        if value == "step_ratio":
            thin = {"color": look["color"], "linewidth": 0.8}
            ax.vlines(rows[key], rows["step_ratio_min"], rows["step_ratio_max"], **thin)
            ax.plot(rows[key], rows["floor_ratio"], **thin, **COUNTED)
    drawing.reference(ax, 1.0)


def _look(arm: str, n: Any) -> dict[str, Any]:
    place = int(n).bit_length()  # n tells the colours apart, the arm the dashes
    colour, marker = (several[place % len(several)] for several in (OTHER_COLOURS, OTHER_MARKERS))
    return style(arm).line(color=colour, marker=marker)


def _log2(ax: Axes, ticks: list[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
