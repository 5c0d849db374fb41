"""A run that is stopped on purpose: the real training code in a process of its own, and the same run undisturbed.

Two things are not as they are for a user. A checkpoint comes after every step, so that there is something to lose
at any moment; and the clock of the steps stands still, so that two runs are the same byte for byte.
"""

import copy
import io
import math
import os
import shutil
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch._dynamo  # which torch.optim would load at every first step

from faults import Fault, arm, passed
from mhc_repro.command_line import compose, jobs
from mhc_repro.config import Config
from mhc_repro.corpora import synthetic
from mhc_repro.runs import RunDirectory, manifest, read_runs
from mhc_repro.schema import UNITS
from mhc_repro.training import checkpoint, trainer
from mhc_repro.training.checkpoint import Checkpoints
from outcomes import last
from stopping import assert_equal
from tiny_runs import TINY

DIGEST = 32  # bytes before a checkpoint
HANGS = 300  # seconds after which a process is ended
NEVER = Fault("kill", 2**62)
SMALL = "model.dim=8 probe.windows=2 probe.token_maps=32 train.val_windows=1 train.test_windows=1"
OFTEN = "train.steps=4 train.val_every=2 runtime.checkpoint_seconds=0 runtime.progress=lines"
MHC = ["connection=mhc", "connection.mixing.iterations=2", "model.dropout=0.1"]
RUNS = {
    "mhc": MHC,
    "mhc again": [*MHC, "seed=1"],
    "baseline": ["connection=baseline"],
    "diverges": ["connection=hc", "optim.lr=1e30", "optim.warmup=0", "optim.clip=0"],
}


def prepare() -> None:
    """Make once, in the process that all others are forked from, what each would make anew."""
    code = manifest.code()
    manifest.code = lambda: code
    synthetic.text = cache(synthetic.text)
    checkpoint.OVERHEAD = math.inf
    trainer.time = SimpleNamespace(perf_counter=lambda: 0.0)
    drop = Checkpoints.drop

    def keep(checkpoints: Checkpoints) -> None:
        """Drop all but the last weights, which are compared."""
        with suppress(FileExistsError):  # it was killed before it had dropped them
            for newest in checkpoints.paths()[:1]:
                os.link(newest, _last_weights(checkpoints.folder))
        drop(checkpoints)

    Checkpoints.drop = keep


def _last_weights(checkpoints: Path) -> Path:
    return checkpoints.parents[1] / "last.pt"


@cache
def _composed(name: str) -> Config:
    return compose.compose_jobs([*TINY, *SMALL.split(), *OFTEN.split(), *RUNS[name]])[0]


class Victim:
    """One of RUNS, in a folder of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.results, self.cache, self.said = folder / "results", folder / "cache", folder / "said.txt"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.config = copy.deepcopy(_composed(name))
        self.config.runtime.results, self.config.runtime.cache = str(self.results), str(self.cache)
        self.run = RunDirectory.of(self.config)
        self.passed, self.seconds = 0, 0.0

    def train(self, blow: Fault | float = NEVER) -> int:
        """Train, or go on, until the run ends, the fault comes or so many seconds are over.

        Returns the exit code, or the number of the signal that ended it below zero.
        """
        began, (out, into) = time.monotonic(), os.pipe()
        pid = os.fork()
        if pid == 0:
            self._train_here(blow if isinstance(blow, Fault) else NEVER, into)
        os.close(into)
        if not isinstance(blow, Fault):
            time.sleep(blow)
            os.kill(pid, signal.SIGKILL)
        with open(out) as pipe:
            self.passed = int(pipe.read() or 0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.seconds = time.monotonic() - began
        return code

    def _train_here(self, fault: Fault, into: int) -> None:
        code = 1
        try:
            signal.alarm(HANGS)
            said = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            arm(fault)
            code = jobs.train_here(self.config)
            os.write(into, str(passed()).encode())
        finally:
            os._exit(code)

    def lines(self) -> list[str]:
        """Return what was said since it was last begun."""
        return self.said.read_text().splitlines()

    def unreadable(self) -> str:
        """Say why a reader would not show the run as it stands; empty where it would."""
        found: list[str] = []
        for run in read_runs(self.results, onerror=lambda path, fault: found.append(str(fault))):
            if run.state == "failed":
                found.append(f"it has failed: {run.status['message']}")
        return last(found)

    def differs(self, whole: "Victim") -> str:
        """Say in what it is not the undisturbed run, tables byte for byte, weights bit for bit; else empty."""
        if "Traceback" in self.said.read_text():
            return last(self.lines())
        for mine, theirs in ((self.run.table(name).parquet, whole.run.table(name).parquet) for name in UNITS):
            if mine.exists() != theirs.exists() or (
                theirs.exists() and mine.read_bytes() != theirs.read_bytes()
            ):
                return f"another {mine.name}"
        status, expected = self.run.read_status() or {}, whole.run.read_status() or {}
        for key in ("status", "step", "steps", "message", "broke"):
            if status.get(key) != expected.get(key):
                return f"{key} is {status.get(key)}"
        if not (self.run.read_manifest() or {}).get("exact"):
            return "marked as not exact"
        try:
            assert_equal(self._weights(), whole._weights())
        except AssertionError:
            return "other weights"
        return ""

    def _weights(self) -> dict[str, Any] | None:
        path = self.cache / "last.pt"
        if not path.exists():  # a divergence before the first checkpoint
            return None
        found: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()[DIGEST:]), weights_only=True)
        return found

    def remove(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder)
