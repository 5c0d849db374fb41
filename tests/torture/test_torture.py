"""A short torture finds nothing; and it would find something."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FEW = {"kills": 8, "full disks": 2, "flipped bits": 4, "flipped bits resumed": 2, "documents": 2}
LINES = {"command lines": 20}  # one of seven is right, and of so many some are
# Rows past the checkpoint stay, and damage is no mistake of the user's.
PLANTED = """
import runpy, sys
from mhc_repro.runs import files, table
table.Table.truncate = lambda table, step: table.parquet.unlink(missing_ok=True)
files.broken = lambda path, fault: TypeError(fault)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("cc"), reason="faults are a C library, loaded as Linux does"
)


def torture(record: Path, few: dict[str, int], *command: str) -> dict[str, dict[str, int]]:
    goals = dict.fromkeys(LINES | FEW, 0) | few
    few_of_each = [f"--{part.replace(' ', '-')}={number}" for part, number in goals.items()]
    done = subprocess.run(
        [sys.executable, *command, str(HERE), *few_of_each, "--record", str(record)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
    )
    parts: dict[str, Any] = json.loads(record.read_text())["parts"]
    assert done.returncode == any(part["wrong"] + part["traceback"] for part in parts.values()), done.stderr
    return parts


def test_nothing_is_lost_believed_or_a_traceback(tmp_path: Path) -> None:
    parts = torture(tmp_path / "record.json", FEW | LINES)
    assert {part: sum(ends.values()) for part, ends in parts.items()} == FEW | LINES
    assert {part: ends["wrong"] + ends["traceback"] for part, ends in parts.items()} == dict.fromkeys(
        parts, 0
    )
    assert parts["kills"]["held"] == FEW["kills"]
    assert parts["full disks"]["told"] > FEW["full disks"] / 2
    assert parts["flipped bits"]["told"] > 0  # four of five, of many
    assert parts["command lines"]["told"] > LINES["command lines"] / 2
    assert parts["command lines"]["held"] > 0


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    parts = torture(tmp_path / "record.json", {"kills": 6, "flipped bits": 3}, "-c", PLANTED)
    assert parts["kills"]["wrong"] > 0
    assert parts["flipped bits"]["traceback"] > 0
