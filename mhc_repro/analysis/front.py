"""What the front page shows: settings and arms as `experiments/front.yaml` chooses them, one table, one picture."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

import pandas as pd
from msgspec import Meta, Struct

from mhc_repro.analysis.figures.front import CAPTION
from mhc_repro.analysis.tables import cells, pairs
from mhc_repro.evidence.comparison import Comparison, Studies, joined
from mhc_repro.evidence.kept import kept

FILE = Path("experiments/front.yaml")
PICTURE, HALF = "figures/gain-and-loss.svg", "figures/gain-and-loss-half.svg"
COLUMNS = {
    "setting": "setting",
    "HC − baseline": "HC − baseline",
    "mHC − baseline": "mHC − baseline",
    "mHC − HC": "mHC − HC",
    "HC's gain, largest": "HC's gain",
    **{name: name for name in cells.beside_gain([], "HC's ")},
    "mHC's, largest": "mHC's gain",
    **{name: name for name in cells.beside_gain([], "mHC's ")},
}


class Chosen(Struct, forbid_unknown_fields=True):
    """The file."""

    settings: list[str]
    arms: Annotated[dict[str, str], Meta(min_length=2)]  # labels


@cache
def chosen() -> Chosen:
    """Read what is chosen; UserError when the file cannot be understood."""
    return kept(FILE, Chosen)


def settings(studies: Studies) -> list[Comparison]:
    """Find the chosen settings that have runs, in the order chosen; studies that train the same nets are one."""
    found: dict[str, Comparison] = {}
    every = joined(studies)
    for name in chosen().settings:
        for each in every:
            if any(f"{part} ".startswith(f"{name} ") for part in each.name.split(" + ")):
                found.setdefault(each.name, each)
    return list(found.values())


def label(setting: Comparison) -> str:
    """Name a setting by size and rate."""
    rate = f"{setting.runs[0].config['optim']['lr']:.0e}".replace("e-0", "e-")
    return f"{setting.kind.layers} × {setting.kind.dim}, {rate}"


def table(found: Sequence[Comparison], folder: str) -> str:
    """Write the table of settings: a row links the page of its study, which lists its runs."""
    rows = []
    for setting in found:
        runs = pairs.paired_runs(setting)
        if seeds := len(runs["baseline"]):
            name = f"[{label(setting)}]({folder}{setting.study.split(' ')[0]}/README.md), {seeds} seeds"
            rows.append({"setting": name} | pairs.row(setting, runs))
    if not rows:
        return pairs.EMPTY
    frame = cells.without_unknown(pd.DataFrame(rows, dtype=object)[list(COLUMNS)], *pairs.KERNEL)
    return cells.markdown(frame.rename(columns=COLUMNS))


def picture(folder: str) -> str:
    """Show the one picture, its first half alone on a narrow screen."""
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{folder}{HALF}">'
        f'<img alt="Gain against loss of every run; mHC minus HC by setting" src="{folder}{PICTURE}"></picture>'
        f"\n\n{CAPTION}"
    )
