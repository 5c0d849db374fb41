"""Runs to analyse: the committed fixture, runs made up in memory."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mhc_repro.config import Config, ConnectionConfig
from mhc_repro.runs import PROTOCOL_VERSION, Run, read_runs

HERE = Path(__file__).parent


@pytest.fixture
def runs() -> list[Run]:
    return read_runs(HERE / "fixture")


@pytest.fixture
def fake() -> Callable[..., Run]:
    """Make a run that was never on disk: its metric rows, and what differs from the default config."""
    numbers = count()

    def make(
        arm: str = "baseline",
        rows: list[dict[str, float]] | None = None,
        *,
        seed: int = 0,
        study: str = "made-up",
        state: str = "finished",
        step: int = 60,
        status: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        gains: list[dict[str, float]] | None = None,
        **options: Any,
    ) -> Run:
        config = Config(seed=seed, study=study, connection=ConnectionConfig(name=arm))
        config.train.steps = 60
        for dotted, value in options.items():
            group, _, key = dotted.partition("__")
            setattr(getattr(config, group), key, value)
        filled = {"protocol_version": PROTOCOL_VERSION, "commit": "abcdef0123", "dirty": False} | (
            manifest or {}
        )
        run = Run(
            Path("results") / study / f"{arm}-s{seed}-{next(numbers):08x}",
            {key: value for key, value in asdict(config).items() if key != "runtime"},
            filled,
            {"status": state, "step": step, "steps": 60} | (status or {}),
            state,
        )
        run.__dict__["metrics"] = pd.DataFrame([{"step": 0}] if rows is None else rows or {"step": []})
        run.__dict__["gains"] = pd.DataFrame(gains if gains is not None else [{"step": 0, "layer": 1}])
        return run

    return make
