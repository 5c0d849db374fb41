"""A run killed at any moment, without warning, is the uninterrupted run, bit for bit."""

import itertools
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mhc_repro
from mhc_repro.config import Config
from mhc_repro.runs import UNITS, RunDirectory, read_runs
from mhc_repro.training.loop import train
from stopping import TIMES, Fuse, Killed, assert_same_run, elsewhere, lit, often

pytestmark = pytest.mark.usefixtures("checkpoints_at_every_step")

# --- killed by the operating system -------------------------------------------------------------------------

# Loads torch once and forks a process for each line it is given; says its pid, what it printed, its exit code.
SERVER = """
import math, os, pickle, sys, time
import torch._dynamo  # torch.optim would load it at every first step, for seconds
from mhc_repro.training import checkpoint, data
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer

step = Trainer.step
Trainer.step = lambda self: time.sleep(0.02) or step(self)  # a fast machine must not be done before it is killed
checkpoint.OVERHEAD = math.inf
checkpoint.Checkpoints.drop = lambda checkpoints: None
text = data.synthetic()
data.synthetic = lambda: text
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        with open(line.rstrip(), "rb") as file:
            print(train(pickle.load(file)), flush=True)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Starts a run in a process of its own, again and again."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.pickled, self.errors = config, folder / "config.pickle", folder / "errors.txt"
        self.pickled.write_bytes(pickle.dumps(config))
        package = str(Path(mhc_repro.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors.open("w"),
            text=True,
            env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
        )

    def start(self, until: int) -> int:
        """Start the run and return its pid once the metrics table holds `until` rows."""
        print(self.pickled, file=self.process.stdin, flush=True)
        pid, limit = int(self.line()), time.monotonic() + 60
        while self.rows() < until:
            ended = select.select([self.process.stdout], [], [], 0)[0]
            assert not ended, self.errors.read_text()
            assert time.monotonic() < limit, self.errors.read_text()
            time.sleep(0.002)
        return pid

    def rows(self) -> int:
        try:
            return RunDirectory.of(self.config).table("metrics").jsonl.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def line(self) -> str:
        return self.process.stdout.readline().rstrip()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def make(config: Config) -> Server:
        servers.append(Server(config, tmp_path))
        return servers[-1]

    yield make
    for server in servers:
        server.process.stdin.close()
        server.process.wait(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_run_killed_at_random_moments_is_the_uninterrupted_run(config, serve, tmp_path):
    """SIGKILL four times, beside a second process once, then SIGTERM; then left alone."""
    body = {"dropout": 0.1, "dim": 16}
    settings = {"steps": 100, "model": body, "probe": {"every": 10}}
    settings |= {"train": {"precision": "float32", "val_every": 10}}
    quick = {"kind": "sinkhorn", "iterations": 5}
    killed = often(config("mhc", mixing=quick, **settings), seconds=0.03)
    run, server = RunDirectory.of(killed), serve(killed)
    random = np.random.Generator(np.random.Philox(1))
    for first, last in ((2, 12), (20, 30), (32, 42), (44, 50)):
        pid = server.start(until=int(random.integers(first, last)))
        time.sleep(random.uniform(0, 0.04))
        assert first > 2 or train(killed) == "busy"
        os.kill(pid, signal.SIGKILL)
        assert server.line() == str(-signal.SIGKILL)
        assert run.read_status()["status"] == "running"
        assert run.state() == "interrupted"

    os.kill(server.start(until=60), signal.SIGTERM)
    assert (server.line(), server.line()) == ("interrupted", "0")
    status = run.read_status()
    assert status["status"] == "interrupted"
    assert 59 <= status["step"] < 100

    server.start(until=0)
    assert (server.line(), server.line()) == ("finished", "0")
    errors = server.errors.read_text()
    assert "repeat the command to go on" in errors
    assert "Traceback" not in errors
    manifest = run.read_manifest()
    assert manifest["exact"] is True
    assert manifest["sessions"][-1]["from_step"] == status["step"]
    assert 4 <= len(manifest["sessions"]) <= 6  # the first kill may have come before the first checkpoint

    whole = elsewhere(killed, tmp_path / "whole")
    assert train(whole) == "finished"
    assert_same_run(killed, whole)


def never(path: Path, fault: Exception) -> None:
    raise AssertionError(f"a kill damages nothing, but {fault}")


# --- killed between any two touches of the disk ------------------------------------------------------------


def test_a_run_killed_between_any_two_writes_is_the_uninterrupted_run(config, tmp_path):
    settings = {
        "steps": 2,
        "model": {"blocks": 1, "dim": 4},
        "probe": {"every": 2},
        "train": {"test_windows": 1},
    }
    expected = often(config("baseline", **settings))
    fuse = Fuse()
    with lit(fuse):
        assert train(expected) == "finished"
    assert fuse.passed > 40
    for at in range(fuse.passed):
        place = tmp_path / "killed"
        killed = elsewhere(expected, place)
        with lit(Fuse(at)), pytest.raises(Killed):
            train(killed)
        for run in read_runs(place / "results", onerror=never):
            assert run.state in ("missing", "interrupted", "finished")
        assert train(killed) == "finished", at
        (run,) = read_runs(place / "results", onerror=never)
        assert {*run.manifest["tables"]} == {name for name in UNITS if not run.table(name).read().empty}
        assert_same_run(killed, expected)
        shutil.rmtree(place)


def test_a_divergence_that_is_killed_while_it_is_written_stays_the_same(config, tmp_path):
    expected = config("hc", steps=50, train={"precision": "float32"}, probe={"every": 50})
    expected.optim.lr, expected.optim.warmup, expected.optim.clip = 1e30, 0.0, 0.0
    fuse = Fuse()
    with lit(fuse):
        assert train(expected) == "diverged"
    rows = RunDirectory.of(expected).table("metrics").read().drop(columns=list(TIMES), errors="ignore")
    for at in itertools.islice(range(fuse.passed - 1, -1, -1), 10):  # what follows the last row
        killed = elsewhere(expected, tmp_path / str(at))
        with lit(Fuse(at)), pytest.raises(Killed):
            train(killed)
        assert train(killed) == "diverged"
        again = RunDirectory.of(killed).table("metrics").read().drop(columns=list(TIMES), errors="ignore")
        assert again.equals(rows), at
