"""Runs side by side: the same jobs, a signal that reaches them all, a death that is one run's alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from mhc_repro.command_line import jobs
from mhc_repro.command_line.compose import check_command_line
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, read_runs
from mhc_repro.training import runtime
from tiny_runs import SCRIPT, TINY, assert_no_litter
from two_processes import wait_until

STUDY = """# @package _global_
defaults: [{override /hydra/launcher: joblib}]
study: mine
hydra: {mode: MULTIRUN, launcher: {n_jobs: 3}, sweeper: {params: {seed: "0,1"}}}
"""
TWO_AT_A_TIME = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
NAMED = [
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=3",
    "study=mine",
    "-m seed=0,1 hydra/launcher='joblib' ++hydra.launcher.n_jobs=${model.heads} model.heads=3 model.dim=48",
]


@contextmanager
def started(results: Path, *argv: str, steps: int = 3) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *argv, *TINY, f"train.steps={steps}", f"runtime.results={results}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def begun(results: Path, file: str = "metrics.jsonl", size: int = 3000) -> list[Path]:
    return [path.parent for path in results.glob(f"*/*/{file}") if path.stat().st_size >= size]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("no list of a process's children here")
    pids = map(int, children.read_text().split())
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def results(tmp_path, elsewhere):
    return tmp_path / "results"


@pytest.mark.parametrize("line", NAMED)
def test_what_is_composed_counts_and_not_how_the_launcher_was_named(line, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(STUDY)
    assert check_command_line(["--config-dir", str(tmp_path), *line.split()]).n_jobs == 3


@pytest.mark.parametrize(
    ("number", "file", "size"),
    [(signal.SIGINT, "metrics.jsonl", 3000), (signal.SIGTERM, ".lock", 0)],
    ids=["trained", "prepared"],
)
def test_a_signal_to_a_parallel_multirun_stops_and_saves_every_run(number, file, size, results):
    """To the parent alone, as a scheduler sends it; a terminal's Ctrl-C reaches the others twice."""
    with started(results, *NAMED[0].split(), steps=100000) as process:
        wait_until(lambda: len(begun(results, file, size)) == 2, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=600)
    assert process.returncode == 128 + number, said
    runs = read_runs(results)
    assert [run.state for run in runs] == ["interrupted"] * 2
    assert all(run.status["status"] == "interrupted" for run in runs)  # saved, not killed
    assert said.count("repeat the command to go on") == 2


def test_a_killed_run_has_failed_and_the_others_go_on(results, elsewhere):
    with started(results, *TWO_AT_A_TIME, "seed=0,1,2", steps=60) as process:
        wait_until(lambda: len(begun(results, ".lock", 0)) == 2, process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, said = process.communicate(timeout=1200)
    assert process.returncode == 1, said
    runs = read_runs(results)
    assert sorted(run.state for run in runs) == ["failed", "finished", "finished"]
    (lost,) = [run for run in runs if run.state == "failed"]
    assert f"{lost.run_id}  failed: its process was killed by SIGKILL" in said
    assert said.splitlines()[-1] == f"1 of 3 runs did not finish: {lost.run_id} (failed)"
    assert "Traceback" not in said
    assert "job 3: seed=2\n" in said
    assert_no_litter(elsewhere)


def test_runs_whose_parent_was_killed_save_and_let_go(results):
    with started(results, *TWO_AT_A_TIME, "seed=0,1", steps=100000) as process:
        wait_until(lambda: len(begun(results)) == 2, process)
        process.kill()
        wait_until(lambda: [run.status["status"] for run in read_runs(results)] == ["interrupted"] * 2)


@pytest.mark.parametrize("line", ["", "hydra.launcher.n_jobs=2", "++hydra.launcher.n_jobs=${data.batch}"])
def test_runs_side_by_side_do_not_share_a_gpu(line, monkeypatch):
    sweep = check_command_line(["-m", "hydra/launcher=joblib", "seed=0,1", *line.split()])
    assert sweep.n_jobs is not None
    monkeypatch.setattr(jobs, "cores", lambda: 8)
    assert jobs.workers(sweep.n_jobs, sweep.configs) == 2  # no more than runs
    monkeypatch.setattr(runtime, "device_of", lambda config: torch.device("cuda:0"))
    with pytest.raises(UserError, match=r"n_jobs=2: .* share cuda:0; use hydra.launcher.n_jobs=1"):
        jobs.workers(sweep.n_jobs, sweep.configs)
    assert jobs.workers(1, sweep.configs) == 1


def test_a_run_named_twice_is_made_once(monkeypatch):
    made = []
    # else it is made in another process
    monkeypatch.setattr(RunDirectory, "state_or_damaged", lambda run: "finished")
    monkeypatch.setattr(jobs, "train_here", lambda config: made.append(config.seed) or 0)
    sweep = check_command_line(["-m", "hydra/launcher=joblib", "seed=0,1,0", "runtime.threads=1,2"])
    assert jobs.side_by_side(sweep.configs, sweep.labels, 2) == dict.fromkeys(range(6), 0)
    assert made == [0, 1]
