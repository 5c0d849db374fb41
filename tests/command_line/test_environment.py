"""The environment that make works in: made once, made anew where it is dead or another checkout's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import environment

CHECKOUT = environment.CHECKOUT
# In the place of pip, which would fetch gigabytes: what `pip install --editable .` leaves, and as it refuses.
PIP = """
import os, sys, sysconfig, pathlib
if os.environ.get("PIP_USER", "0") != "0" or os.environ.get("PIP_TARGET"):
    sys.exit("error: told to install elsewhere")
pathlib.Path(sysconfig.get_path("purelib"), "editable.pth").write_text(os.getcwd())
"""


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What environment.py runs; without the seconds that a real pip takes to arrive and to install."""
    commands: list[tuple[str, ...]] = []
    original = environment.run

    def run(checkout: Path, *command: str) -> int:
        commands.append(command)
        if "venv" not in command:
            return original(checkout, *command)
        code = original(checkout, *command, "--without-pip")
        (site,) = Path(command[-1]).glob("lib/python*/site-packages")
        (site / "pip.py").write_text(PIP)
        return code

    monkeypatch.setattr(environment, "run", run)
    return commands


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a b" / "app"
    (folder / "mhc_repro").mkdir(parents=True)
    (folder / "mhc_repro" / "__init__.py").touch()
    for name in environment.VERSIONS:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def source(folder: Path) -> str:
    """The checkout whose package an environment has."""
    command = [str(folder / "bin" / "python"), "-I", "-c", environment.SOURCE]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_made_once_and_brought_up_to_date(checkout, ran, monkeypatch):
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", str(checkout))
    assert environment.main(checkout / ".venv", checkout) == 0
    assert source(checkout / ".venv") == str(checkout)
    assert len(ran) == 2
    assert environment.main(checkout / ".venv", checkout) == 0
    assert len(ran) == 2
    with (checkout / environment.VERSIONS[1]).open("a") as constraints:
        constraints.write("more==1\n")
    (checkout / ".venv" / "mine").touch()
    assert environment.main(checkout / ".venv", checkout) == 0
    assert len(ran) == 4
    assert (checkout / ".venv" / "mine").exists()  # not made anew for that


def test_copied_with_its_checkout_it_is_made_anew(checkout, ran):
    assert environment.main(checkout / ".venv", checkout) == 0
    copy = checkout.parent / "copy"
    shutil.copytree(checkout, copy, symlinks=True)
    assert source(copy / ".venv") == str(checkout)
    assert environment.main(copy / ".venv", copy) == 0
    assert source(copy / ".venv") == str(copy)
    assert str(checkout) not in (copy / ".venv" / "bin" / "activate").read_text()
    assert source(checkout / ".venv") == str(checkout)


def test_shared_by_two_checkouts_it_is_pointed_at_the_one_that_asks(checkout, tmp_path):
    other, shared = checkout.parent / "other", tmp_path / "shared"
    shutil.copytree(checkout, other)
    for each in (checkout, other, checkout):
        assert environment.main(shared, each) == 0
        assert source(shared) == str(each)


def test_with_its_python_gone_it_is_made_anew(checkout):
    assert environment.main(checkout / ".venv", checkout) == 0
    for link in (checkout / ".venv" / "bin").glob("python*"):
        link.unlink()
        link.symlink_to("/no/such/python")
    assert environment.main(checkout / ".venv", checkout) == 0
    assert source(checkout / ".venv") == str(checkout)


def test_a_folder_that_is_no_environment_keeps_what_it_holds(checkout, tmp_path):
    (tmp_path / "precious").write_text("all I have")
    assert environment.main(tmp_path, checkout) == 0
    assert (tmp_path / "precious").exists()


def test_another_python_is_refused(checkout, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert environment.main(checkout / ".venv", checkout) == 2
    assert "PYTHON=python3.12" in capsys.readouterr().err


def test_a_copied_checkout_runs_and_records_its_own_code(tmp_path):
    """By the original's Python, in which the original is installed."""
    from tiny_runs import TINY

    copy = tmp_path / "a b" / "app"
    for name in ("mhc_repro", "conf", "experiments"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "mhc_repro" / "__init__.py").write_text('__version__ = "0.0.copy"\n')

    def say(*command: str) -> str:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTHONPATH"))}
        return subprocess.run(
            command, cwd=copy, env=plain, capture_output=True, text=True, check=True
        ).stdout.strip()

    git = ("git", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "commit.gpgsign=false")
    say(*git, "init", "-q")
    say(*git, "add", "-A")
    say(*git, "commit", "-qm", "mine")
    say(sys.executable, "experiments/train.py", *TINY, f"runtime.cache={tmp_path / 'cache'}")
    (run,) = (copy / "results" / "local" / "scratch").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["mhc-repro"] == "0.0.copy"
    assert manifest["commit"] == say("git", "rev-parse", "HEAD")
    assert manifest["dirty"] is False
