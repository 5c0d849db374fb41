"""Runs side by side: the same jobs, and a signal that reaches them all."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from mhc_repro.command_line import compose
from mhc_repro.errors import UserError
from mhc_repro.runs import read_runs
from mhc_repro.training import runtime
from tiny_runs import SCRIPT, TINY, assert_no_litter


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "file", "size"),
    [
        (signal.SIGINT, "metrics.jsonl", 3000),
        (signal.SIGTERM, "metrics.jsonl", 3000),
        (signal.SIGTERM, ".lock", 0),  # while the runs are prepared
    ],
)
def test_a_signal_to_a_parallel_multirun_stops_and_saves_every_run(
    number: int, file: str, size: int, elsewhere: Path, tmp_path: Path
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
        while len([path for path in results.glob(f"*/*/{file}") if path.stat().st_size >= size]) < 2:
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + number, said
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


@pytest.mark.parametrize("line", ["", "hydra.launcher.n_jobs=2", "hydra.launcher.n_jobs=-1"])
def test_runs_side_by_side_do_not_share_a_gpu(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["-m", "hydra/launcher=joblib", "seed=0,1", *line.split()]
    configs = compose.compose_jobs(argv)
    monkeypatch.setattr(compose, "cores", lambda: 8)
    assert compose.limit_workers(argv, configs)[-1] == "hydra.launcher.n_jobs=2"
    monkeypatch.setattr(runtime, "device_of", lambda config: torch.device("cuda:0"))
    with pytest.raises(UserError, match=r"n_jobs=2: .* share cuda:0; use hydra.launcher.n_jobs=1"):
        compose.limit_workers(argv, configs)
    assert compose.limit_workers([*argv, "hydra.launcher.n_jobs=1"], configs)[-1] == "hydra.launcher.n_jobs=1"
