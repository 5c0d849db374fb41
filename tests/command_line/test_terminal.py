"""Odd terminals and surroundings cost decoration, not the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mhc_repro.command_line import cli
from mhc_repro.command_line.entry import exit_code
from mhc_repro.runs import read_runs
from tiny_runs import SCRIPT, TINY

ROOT = Path(__file__).parents[1] / "support" / "fixture"
LS = ["-m", "mhc_repro.command_line.cli", "ls", "--root", str(ROOT)]


def run(arguments: list[str], streams: str = "", **settings: str) -> subprocess.CompletedProcess:
    """Run Python in a shell, with streams such as >&- and variables as given, `HOME=""` without a home."""
    env = {name: value for name, value in {**os.environ, **settings}.items() if value}
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_without_streams_and_signs_all_is_listed_as_ever():
    plain = run(LS)
    assert plain.returncode == 0
    odd = run(LS, "<&- 2>&-", PYTHONIOENCODING="ascii")
    assert (odd.returncode, odd.stderr) == (0, "")
    assert odd.stdout == plain.stdout.encode("ascii", "replace").decode()
    closed = run(LS, ">&-")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, "", "")


def test_commands_do_without_docstrings(monkeypatch):
    """As PYTHONOPTIMIZE=2 has it."""
    for command in (cli.ls, cli.show, cli.doctor):
        monkeypatch.setattr(command, "__doc__", None)
    assert cli.main(["ls", "--root", str(ROOT)]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
def test_a_full_disk_behind_the_output_is_one_line():
    full = run(LS, ">/dev/full")
    assert (full.returncode, full.stderr) == (2, "error: No space left on device: no file named\n")


def test_a_path_that_is_too_long_for_the_system_is_shortened(capsys):
    assert exit_code(lambda: len(Path("x/" * 3000).read_bytes())) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: File name too long: x/x/")
    assert said.count("\n") == 1
    assert len(said) < 200


FREE = """
import os, sys
from mhc_repro.command_line import terminal
terminal.mend()
opened = os.open(os.devnull, os.O_WRONLY)
for name in terminal.STREAMS[1:]:
    print("one", file=getattr(sys, name), flush=True)
sys.exit(opened)
"""


@pytest.mark.parametrize("streams", ["", ">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(streams):
    assert run(["-c", FREE], streams).returncode >= 3


def test_a_run_without_streams_and_home_is_a_run(tmp_path, elsewhere):
    where = [f"runtime.results={tmp_path / 'results'}", f"runtime.cache={tmp_path / 'cache'}"]
    argv = [str(SCRIPT), "connection=hc", *TINY, *where]
    done = run(argv, "<&- >&- 2>&-", PYTHONIOENCODING="latin-1", HOME="", XDG_CACHE_HOME="")
    assert done.returncode == 0
    (made,) = read_runs(tmp_path / "results")
    assert made.state == "finished"
    assert made.metrics["step"].tolist() == [0, 1, 2, 3]
    assert "finished after 3 steps" in (made.path / "train.log").read_text(encoding="utf-8")
