"""Runs side by side: the same jobs, and a signal that reaches them all."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mhc_repro.runs import read_runs
from tiny_runs import SCRIPT, TINY, assert_no_litter


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_parallel_multirun_stops_and_saves_every_run(
    number: int, elsewhere: Path, tmp_path: Path
) -> None:
    """To the parent alone, as a scheduler sends it; a terminal's Ctrl-C reaches the others twice."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    results = tmp_path / "results"
    argv = (
        "-m",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=3",
        "seed=0,1",
        *TINY,
        "train.steps=100000",
    )
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *argv, f"runtime.results={results}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 180
    try:
        while len([path for path in results.glob("*/*/metrics.jsonl") if path.stat().st_size > 3000]) < 2:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    runs = read_runs(results)
    assert [run.state for run in runs] == ["interrupted"] * 2
    assert all(run.status["status"] == "interrupted" for run in runs)  # saved, not killed
    assert said.count("repeat the command to go on") == 2


@pytest.mark.slow
def test_joblib_runs_the_same_jobs(elsewhere: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    argv = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1", *TINY)
    command = [sys.executable, str(SCRIPT), *argv, f"runtime.results={tmp_path / 'results'}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    assert [(run.seed, run.state) for run in read_runs(tmp_path / "results")] == [
        (0, "finished"),
        (1, "finished"),
    ]
    assert "job 2: seed=1\n" in done.stderr
    assert_no_litter(elsewhere)
