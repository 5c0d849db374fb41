"""What the Makefile types, without running it."""

import os
import re
import shlex
import subprocess

import pytest
import yaml

from mhc_repro.command_line.compose import CONF, compose_jobs


@pytest.mark.parametrize("target", ["study STUDY=published", "reproduce", "quick"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_makefile_types_what_can_be_run(target: str, jobs: int) -> None:
    command = ["make", "--dry-run", "--no-print-directory", "VENV=venv", f"JOBS={jobs}", *target.split()]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONF.parent).stdout
    (line,) = [line for line in printed.splitlines() if "experiments/train.py" in line]
    configs = compose_jobs(shlex.split(line)[2:])
    study = {"reproduce": "stability", "quick": "quick"}.get(target, target.partition("=")[2])
    assert {config.study for config in configs} == {study}
    assert (" hydra.launcher.n_jobs=2 " in line) == (jobs == 2 and target != "quick")


@pytest.mark.parametrize("target", ["study STUDY=depth", "reproduce", "reproduce-all", "quick"])
@pytest.mark.parametrize("folder", ["elsewhere", "my results", "it's $HOME"])
def test_what_is_trained_elsewhere_is_shown_from_there(target: str, folder: str) -> None:
    given = ["VENV=my env", f"RESULTS={folder.replace('$', '$$')}"]
    command = ["make", "--dry-run", "--no-print-directory", *given, *target.split()]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONF.parent).stdout
    (trained,) = [shlex.split(line) for line in printed.splitlines() if "experiments/train.py" in line]
    (shown,) = [shlex.split(line) for line in printed.splitlines() if "experiments/report.py" in line]
    assert {"my env/bin/python"} <= set(trained) & set(shown)
    (config, *_) = compose_jobs([word for word in trained if word.startswith("runtime.")])
    assert config.runtime.results == folder
    assert shown[shown.index("--root") + 1] == folder


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process is bound to cores here")
def test_no_more_jobs_than_cores_that_may_be_used() -> None:
    core = min(os.sched_getaffinity(0))
    told = {**os.environ, "OMP_NUM_THREADS": "7"}  # threads of a run, not runs
    command = ["make", "--no-print-directory", "help"]
    printed = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=CONF.parent,
        env=told,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ).stdout
    assert re.search(r"JOBS=1 .*\(default: 1\)", printed)


def test_make_reproduce_all_names_every_recorded_study() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "VENV=venv", "reproduce-all"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CONF.parent).stdout
    (named,) = re.findall(r"for study in ([\w ]+);", printed)
    studies = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in CONF.glob("study/*.yaml")
    }
    recorded = {
        name for name, study in studies.items() if study.get("runtime", {}).get("results") == "results"
    }
    assert set(named.split()) == recorded
    assert named.startswith("stability")
