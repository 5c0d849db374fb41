"""What a terminal shows: tables without lines, those of the report fitted to its width, paths as seen from here."""

import os
import sys
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from mhc_repro.analysis.tables import cells

WIDE = 200  # columns, where the output is a file or a pipe


def console(wide: int = WIDE) -> Console:
    """Make what prints tables, as wide as the terminal, or `wide` where there is none."""
    return Console(width=None if sys.stdout.isatty() else wide, highlight=False, markup=False)


def table(*columns: str) -> Table:
    """Make a table without lines."""
    made = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_header=any(columns))
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column == "run")  # an id is there to be copied
    return made


def fitted(frame: pd.DataFrame, width: int, title: str = "") -> Table:
    """Lay a table out for a terminal `width` columns wide; a word breaks only where there is no room for it."""
    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    # rich would cut off what it cannot squeeze: between columns are two spaces, and one at either end
    for name, room in zip(frame.columns, _widths(frame, width - 2 * len(frame.columns)), strict=True):
        left = cells.words(frame[name])
        made.add_column(name, justify="left" if left else "right", overflow="fold", width=room)
    for row in frame.itertuples(index=False):
        made.add_row(*map(str, row))
    return made


def shown(path: Path) -> str:
    """Return a path as it is seen from here: where a run stands tells a recorded one from one's own."""
    path, here = Path(os.path.normpath(path)), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _widths(frame: pd.DataFrame, room: int) -> list[int]:
    """Share `room` among columns: their longest words first, of headings last; the rest to the longest texts."""
    texts = [[name, *frame[name]] for name in frame.columns]
    words = [[len(word) for text in of for word in text.split()] for of in (of[1:] for of in texts)]
    inside = [max(of, default=1) for of in words]
    found = [max(least, *map(len, of[0].split())) for least, of in zip(inside, texts, strict=True)]
    longest = [max(map(len, of)) for of in texts]
    every = range(len(found))
    while sum(found) > max(room, len(found)):
        found[max(every, key=lambda at: (found[at] > inside[at], found[at]))] -= 1
    while sum(found) < min(room, sum(longest)):
        found[max(every, key=lambda at: longest[at] / found[at])] += 1
    return found
