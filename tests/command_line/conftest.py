"""A place to type commands in."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig

import train
from mhc_repro import places
from mhc_repro.command_line import jobs
from mhc_repro.config import Config
from mhc_repro.runs import plan
from mhc_repro.training import loop
from tiny_runs import SCRIPT


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with the cache beside it; no recorded run tells the time of a plan."""
    monkeypatch.setattr(places, "DEFAULT_ROOTS", ())
    monkeypatch.setenv("MHC_REPRO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def main(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """experiments/train.py, called with what one types after its name; returns its exit code."""

    def call(*argv: str) -> int:
        HydraConfig.instance().cfg = (
            None  # a process has one line; what an earlier one was named is not in this
        )
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *argv])
        try:
            return train.main(list(argv))
        except SystemExit as stop:  # Hydra after showing something, and the only way to stop its sweep
            return int(stop.code or 0)

    handlers = logging.getLogger().handlers[:]
    yield call
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def instead_of_training(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Config], str]], None]:
    """Let a function take the place of training; of what it leaves, nothing can be found, and no time is known."""

    def put(train: Callable[[Config], str]) -> None:
        monkeypatch.setattr(loop, "train", train)
        monkeypatch.setattr(jobs, "tell_findings", lambda config: None)
        monkeypatch.setattr(plan, "read_runs", lambda root: [])

    return put


@pytest.fixture
def trained(instead_of_training: Callable[[Callable[[Config], str]], None]) -> list[Config]:
    """The configs that reach training, which is skipped."""
    configs: list[Config] = []
    instead_of_training(lambda config: configs.append(config) or "finished")
    return configs
