"""The schema page and the code name the same columns and units, and the room stays free of torch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mhc_repro
from mhc_repro.evidence.index import COLUMNS, WHO
from mhc_repro.runs import UNITS

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


def test_importing_the_room_does_not_import_torch():
    modules = [f"mhc_repro.runs.{path.stem}" for path in (CHECKOUT / "mhc_repro" / "runs").glob("*.py")]
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
