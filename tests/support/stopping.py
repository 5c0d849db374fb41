"""Runs that are stopped on purpose, and what makes two runs the same one."""

import math
import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest
import torch

from mhc_repro.config import Config
from mhc_repro.runs import RunDirectory
from mhc_repro.runs import manifest as run_manifest
from mhc_repro.schema import UNITS
from mhc_repro.training import checkpoint
from mhc_repro.training.checkpoint import Checkpoints
from mhc_repro.training.loop import checkpoint_folder, train
from mhc_repro.training.trainer import Trainer
from tiny_training import TIMES

OFTEN = {"checkpoint_seconds": 0.0}  # of a runtime


@pytest.fixture
def checkpoints_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the cap on their cost (runtime.checkpoint_seconds still counts); spare what is slow and not at stake."""
    monkeypatch.setattr(checkpoint, "OVERHEAD", math.inf)
    monkeypatch.setattr(Checkpoints, "drop", lambda checkpoints: None)  # the last ones are compared
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # what is recorded counts here
    code = run_manifest.code()
    monkeypatch.setattr(run_manifest, "code", lambda: code)


def elsewhere(config: Config, folder: Path) -> Config:
    """The same run with results and checkpoints in another place."""
    copy = pickle.loads(pickle.dumps(config))
    copy.runtime.results, copy.runtime.cache = str(folder / "results"), str(folder / "cache")
    return copy


def final_state(config: Config) -> dict[str, Any]:
    state, warnings = Checkpoints(checkpoint_folder(config, RunDirectory.of(config)), 60).load()
    assert state is not None
    assert warnings == []
    return state


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def assert_same_run(config: Config, expected: Config) -> None:
    """Compare tables (without the wall clock), last weights, optimiser and generator, bit for bit."""
    run, whole = RunDirectory.of(config), RunDirectory.of(expected)
    for name in UNITS:
        assert not run.table(name).jsonl.exists()
        paths = [each.table(name).parquet for each in (run, whole)]
        if not any(path.exists() for path in paths):  # some nets have no depth kernel
            continue
        one, other = map(pq.read_table, paths)
        assert one.column_names == other.column_names
        kept = [column for column in one.column_names if column not in TIMES]
        assert one.select(kept).equals(other.select(kept)), name
    assert_equal(final_state(config), final_state(expected))
    assert run.read_status()["status"] == "finished"
    assert run.read_status()["step"] == config.train.steps


@contextmanager
def at_step(step: int, act: Any) -> Iterator[None]:
    """Call `act` when that update is done."""
    original = Trainer.step

    def stepped(self: Trainer) -> dict[str, Any]:
        row = original(self)
        if self.done == step:
            act()
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stepped)
        yield


def assert_ends_as_undisturbed(config: Config) -> None:
    """Go on with a run to its end, and compare it with the same run made elsewhere at one go."""
    assert train(config) == "finished"
    whole = elsewhere(config, Path(config.runtime.results).with_name("undisturbed"))
    assert train(whole) == "finished"
    assert_same_run(config, whole)


def interrupt(config: Config, step: int, number: int = signal.SIGTERM) -> str:
    with at_step(step, lambda: os.kill(os.getpid(), number)):
        return train(config)


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the package may catch it."""


def kill(config: Config, step: int) -> None:
    with at_step(step, Mock(side_effect=Killed)), pytest.raises(Killed):
        train(config)
