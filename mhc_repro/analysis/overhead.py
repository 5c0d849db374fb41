"""What the arms cost: the records of experiments/bench.py, their table for the README and their figure.

A record is one JSON file in `bench/` under the results root, named by its date and processor. The newest of a
kind fills the README, in the order of the names, so that what is made depends on the files alone.
"""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from mhc_repro.analysis import tables, theme
from mhc_repro.analysis.comparison import BASELINE, rank
from mhc_repro.errors import UserError
from mhc_repro.runs import files

SCHEMA_VERSION = 1
FOLDER = "bench"
SCALING, ALL_ARMS = (
    "-scaling",
    "-arms",
)  # end the name of a record by dim, n and tokens, and of one of many arms
FEW = 8  # arms that the README's table of costs can hold
FIGURE = "figures/bench-scaling.svg"
EMPTY = "No bench yet: `make bench` makes one."
CAPTION = (
    "Step: median (smallest to largest) over rounds of the arm's step over the baseline's beside it. Extra: the "
    "same as a difference. Peak memory: of the process, the baseline's for comparison. First step: with an empty "
    "compiler cache, and again with a filled one."
)
SCALING_CAPTION = (
    "Step time and peak memory over the baseline's, by width, streams and tokens (bars: smallest to largest "
    "round). Faint: what the counted extra FLOPs and bytes need at the measured matrix-product and copy speeds."
)

COUNTED: dict[str, Any] = {"linestyle": (0, (1, 1)), "alpha": 0.7}

Record = dict[str, Any]


def save(record: Record, root: Path) -> str:
    """Keep a record under the results root; return where, as seen from there."""
    slug = re.sub(r"[^a-z0-9]+", "-", record["fingerprint"]["cpu"].lower()).strip("-")
    kind = SCALING if "points" in record else ALL_ARMS if len(record["connections"]) > FEW else ""
    name = f"{FOLDER}/{record['date']}-{slug}{kind}.json"
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    files.write_json(root / name, record)
    return f"{root.name}/{name}"


def newest(root: Path, kind: str = "") -> Record | None:
    """Read the newest record of a kind, None when there is none; UserError for one of another schema."""

    def is_of_kind(path: Path) -> bool:
        return next((each for each in (SCALING, ALL_ARMS) if path.stem.endswith(each)), "") == kind

    names = sorted(filter(is_of_kind, (root / FOLDER).glob("*.json")))
    return read(names[-1]) if names else None


def read(path: Path) -> Record:
    """Read a record; UserError for one of another schema."""
    try:
        record = json.loads(path.read_bytes())
        if record["schema_version"] == SCHEMA_VERSION:
            return record
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"{path.parents[1].name}/{FOLDER}/{path.name}: no bench record of this version; delete it, then make bench"
    )


def part(root: Path) -> str:
    """Write the README's part."""
    record = newest(root)
    if record is None:
        return EMPTY
    pieces = [tables.markdown(arms(record)), CAPTION, f"*{provenance(record)} Measure anew: `make bench`.*"]
    if newest(root, SCALING):
        pieces.append(f"![{SCALING_CAPTION}]({root.name}/{FIGURE})\n\n{SCALING_CAPTION}")
    return "\n\n".join(pieces)


def figures(root: Path) -> dict[str, str]:
    """Draw the figure of the newest scaling record, by its path below the results root."""
    record = newest(root, SCALING)
    return {FIGURE: theme.to_svg(scaling(record))} if record else {}


def arms(record: Record) -> pd.DataFrame:
    """Lay a record out as a table of finished text, the baseline first."""
    base = record["baseline"]
    rows = [
        {
            "arm": theme.style(BASELINE).label,
            "step (× baseline)": "1",
            "extra (ms)": tables.DASH,
            "peak memory (× baseline)": f"1 ({base['peak_memory_bytes'] / 2**20:,.0f} MiB)",
            "first step (s)": _first(base),
            "parameters": f"{base['parameters']:,}",
        }
    ]
    for arm in sorted(record["connections"], key=rank):
        numbers = record["connections"][arm]
        rows.append(
            {
                "arm": theme.style(arm).label,
                "step (× baseline)": _spread(numbers, "step_ratio", 1, 2),
                "extra (ms)": _spread(numbers, "extra_seconds", 1000, 0),
                "peak memory (× baseline)": f"{numbers['peak_memory_ratio']:.2f}",
                "first step (s)": _first(numbers),
                "parameters": f"+{numbers['params_added']:,}",
            }
        )
    return pd.DataFrame(rows, dtype=object)


def points(record: Record) -> pd.DataFrame:
    """Lay a scaling record out as a table of finished text."""
    return pd.DataFrame(
        [
            {
                "arm": theme.style(row["connection"]).label,
                "dim": str(row["dim"]),
                "n": str(row["n"]),
                "tokens": f"{row['tokens']:,}",
                "step (× baseline)": _spread(row, "step_ratio", 1, 2),
                "counted": f"{row['floor_ratio']:.2f}",
                "extra GFLOP": f"{row['extra_flops'] / 1e9:,.1f}",
                "extra GB": f"{row['extra_bytes'] / 1e9:,.2f}",
                "peak memory (× baseline)": f"{row['peak_memory_ratio']:.2f}",
            }
            for row in record["points"]
        ],
        dtype=object,
    )


def provenance(record: Record) -> str:
    """Say what was measured, on what, and by which code."""
    made, model, data = record["fingerprint"], record["setting"]["model"], record["setting"]["data"]
    what = f"protocol `{record['protocol']}`"
    if record["overrides"]:
        what += f" with {' '.join(record['overrides'])}"
    if "points" not in record:
        base = record["baseline"]
        what += (
            f" ({model['blocks']} blocks × {model['dim']}, {data['batch']} × {data['sequence']} tokens)"
            f", baseline {_spread(base, 'step_seconds', 1000, 0)} ms a step, "
            f"{base['tokens_per_second']:,.0f} tokens/s, utilisation {_spread(base, 'utilisation', 1, 2)} of "
            f"{base['sgemm_flops_per_second'] / 1e9:,.0f} GFLOP/s"
        )
    compiled = "compiled" if made["compile"] else "uncompiled"
    commit = str(record["commit"])[:7] + (" with uncommitted changes" if record["dirty"] else "")
    return (
        f"Bench of {record['date']}: {what}; {record['rounds']} rounds, {_machine(record)}, {compiled}, "
        f"load before {record['load']:g}, commit {commit}."
    )


@theme.styled
def scaling(record: Record) -> Figure:
    """Draw step ratio and peak memory against dim, and against tokens."""
    table = pd.DataFrame(record["points"])
    centre = table["tokens"].mode()[0]  # the grid of dim and n is at one number of tokens
    by_dim = table[table["tokens"] == centre]
    others = table[table["tokens"] != centre]
    place = others[["dim", "n"]].drop_duplicates()
    by_tokens = table.merge(place, on=["dim", "n"])
    figure = Figure(figsize=(8.6, 6.0))
    title = f"Cost of a training step beside the baseline's\n{_subtitle(record)}"
    figure.suptitle(title, x=0.012, y=0.99, ha="left", va="top")
    axes = figure.subplots(2, 2)
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
    handles = [Line2D([], [], **_look(*each), label=_label(*each)) for each in labels]
    handles.append(Line2D([], [], color="0.4", linewidth=0.8, **COUNTED, label="counted work"))
    figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 6))
    figure.subplots_adjust(left=0.08, right=0.99, top=0.86, bottom=0.13, wspace=0.2, hspace=0.42)
    return figure


def _draw(ax: Axes, table: pd.DataFrame, key: str, value: str) -> None:
    for (arm, n), rows in table.sort_values(key).groupby(["connection", "n"]):
        look = _look(str(arm), n)
        ax.plot(rows[key], rows[value], **look)
        if value == "step_ratio":
            thin = {"color": look["color"], "linewidth": 0.8}
            ax.vlines(rows[key], rows["step_ratio_min"], rows["step_ratio_max"], **thin)
            ax.plot(rows[key], rows["floor_ratio"], **thin, **COUNTED)
    ax.axhline(1.0, **theme.style(BASELINE).line(linewidth=0.9, zorder=1))


def _look(arm: str, n: Any) -> dict[str, Any]:
    place = int(n).bit_length()  # n tells the colours apart, the arm the dashes
    colours, markers = theme.OTHER_COLOURS, theme.OTHER_MARKERS
    look = {"color": colours[place % len(colours)], "marker": markers[place % len(markers)]}
    return theme.style(arm).line(**look)


def _label(arm: str, n: Any) -> str:
    return f"{theme.style(arm).label}, n = {n}"


def _log2(ax: Axes, ticks: list[int]) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _subtitle(record: Record) -> str:
    blocks, rounds = record["setting"]["model"]["blocks"], record["rounds"]
    return f"{blocks} blocks, {rounds} rounds (bars: smallest to largest); {_machine(record)}"


def _machine(record: Record) -> str:
    made = record["fingerprint"]
    threads = f"{made['threads']} thread{'s' if made['threads'] > 1 else ''}"
    return f"{made['cpu']} ({made['device']}), {threads}, torch {made['torch']}"


def _spread(numbers: Record, key: str, scale: float, decimals: int) -> str:
    middle, low, high = (f"{scale * numbers[key + end]:.{decimals}f}" for end in ("", "_min", "_max"))
    return f"{middle} ({low} to {high})"


def _first(numbers: Record) -> str:
    return f"{numbers['first_step_seconds']:.1f} / {numbers['first_step_seconds_warm']:.1f}"
