"""The schema page and the code name the same columns and units."""

import re
from pathlib import Path

import pytest

import mhc_repro
from mhc_repro.evidence.index import COLUMNS, WHO
from mhc_repro.schema import UNITS

CHECKOUT = Path(mhc_repro.__file__).parents[1]
PAGE = CHECKOUT / "results" / "README.md"


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", list(UNITS))
def test_every_column_is_described_with_its_unit(name):
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", section(name), re.MULTILINE)
    assert dict(rows) == UNITS[name]
    assert len(rows) == len(UNITS[name])


def test_every_column_of_the_index_is_described():
    rows = re.findall(r"^\| `([^`]+)` \|", section("index.csv"), re.MULTILINE)
    assert tuple(rows) == (*WHO, *COLUMNS)
