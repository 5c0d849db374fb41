"""Nothing of a table is cut off, and no word broken that has room."""

import io

import pytest
from rich.console import Console

from mhc_repro.analysis.tables import stability
from mhc_repro.command_line.printing import fitted
from mhc_repro.evidence.comparison import comparisons


def test_nothing_is_cut_off_in_a_terminal_of_80_columns(runs):
    printed = Console(width=80, file=io.StringIO())
    found = stability.tables(comparisons(runs))
    for table in found:
        printed.print(fitted(table.frame, printed.width, table.title))
    lines = printed.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "…" in line]
    said = {word for line in lines for word in line.split()}
    for table in found:
        for name in table.frame:
            assert {word for cell in table.frame[name] for word in cell.split()} <= said


@pytest.mark.parametrize("width", range(96, 200, 8))
def test_headings_break_at_spaces_alone_where_there_is_room(runs, width):
    for table in stability.tables(comparisons(runs)):
        printed = Console(width=width, file=io.StringIO())
        printed.print(fitted(table.frame, printed.width, table.title))
        lines = printed.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert {word for name in table.frame for word in name.split()} <= {
            word for line in lines for word in line.split()
        }
