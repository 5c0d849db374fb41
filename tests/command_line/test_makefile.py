"""What the Makefile types, without running it."""

import os
import re
import shlex
import subprocess
from typing import Any

import pytest

from mhc_repro.command_line.compose import CONF, compose_jobs
from yaml_files import load


def make(*words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess:
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, capture_output=True, text=True, check=check, cwd=CONF.parent, **options)


def typed(target: str, *given: str) -> tuple[list[list[str]], list[list[str]]]:
    """What a target would type: the words of each line that trains, and of each that reports."""
    lines = make("--dry-run", *given, *target.split()).stdout.splitlines()
    return tuple(
        [shlex.split(line) for line in lines if f"experiments/{name}.py" in line]
        for name in ("train", "report")
    )


@pytest.mark.parametrize(
    ("target", "study"),
    [
        ("study STUDY=published", "published"),
        ("reproduce", "stability"),
        ("quick", "quick"),
        ("try ARM=tbp", "quick"),
        ("try ARM=hc", "quick"),
    ],
)
def test_the_makefile_types_what_can_be_run(target, study):
    (line,), _ = typed(target, "VENV=venv", "JOBS=2")
    configs = compose_jobs(line[2:])
    assert {config.study for config in configs} == {study}
    assert ("hydra.launcher.n_jobs=2" in line) == (study != "quick")
    (alone,), _ = typed(target, "VENV=venv", "JOBS=1")
    assert alone == [word for word in line if "launcher" not in word and word != "-m"]
    if study == "quick":
        arms = ["baseline", "hc", "mhc", *(["tbp"] if "tbp" in target else [])]
        assert [config.connection.name for config in configs] == arms


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("quick", ["--root", "results/local", "--study", "quick", "--console"]),
        ("study STUDY=edge_small RESULTS=x", ["--root", "x", "--study", "edge_small", "--console"]),
        ("study STUDY=depth", []),  # recorded: every page may speak of it
        ("reproduce-all", []),
    ],
)
def test_what_was_trained_is_shown_from_where_it_is(target, shown):
    _, (line,) = typed(target, "VENV=venv")
    assert line[2:] == shown


@pytest.mark.parametrize(
    "target", ["study STUDY=depth", "reproduce", "reproduce-all", "quick", "try ARM=tbp"]
)
def test_what_is_trained_elsewhere_is_shown_from_there(target):
    folder = "it's $HOME"
    (trained, *_), (shown,) = typed(target, "VENV=my env", f"RESULTS={folder.replace('$', '$$')}")
    assert {"my env/bin/python"} <= set(trained) & set(shown)
    (config, *_) = compose_jobs([word for word in trained if word.startswith("runtime.")])
    assert config.runtime.results == folder
    assert shown[shown.index("--root") + 1] == folder


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process is bound to cores here")
def test_no_more_jobs_than_cores_that_may_be_used():
    core = min(os.sched_getaffinity(0))
    told = {**os.environ, "OMP_NUM_THREADS": "7"}  # threads of a run, not runs
    helped = make("help", env=told, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert re.search(r"JOBS=1 .*\(default: 1\)", helped.stdout)


@pytest.mark.parametrize(("target", "wanted"), [("study", "STUDY="), ("try", "ARM=")])
def test_a_name_that_is_left_out_is_asked_for(target, wanted):
    found = make("--assume-old=setup", target, check=False)
    assert found.returncode == 2
    assert wanted in found.stderr.splitlines()[0]
    assert "hc" in found.stderr or "depth" in found.stderr


def test_make_reproduce_all_names_every_recorded_study():
    train, _ = typed("reproduce-all", "VENV=venv")
    named = [word.removeprefix("study=") for line in train for word in line if word.startswith("study=")]
    studies = {path.stem: load("study", path.stem) for path in CONF.glob("study/*.yaml")}
    roots = {name: study.get("runtime", {}).get("results") for name, study in studies.items()}
    assert set(named) == {name for name, root in roots.items() if root == "results"}
    assert named[0] == "stability"
