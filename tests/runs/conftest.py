"""Configs whose results stay in a temporary folder, and runs made from them without training."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mhc_repro.config import Config, ConnectionConfig, RuntimeConfig, TrainConfig
from mhc_repro.runs import PROTOCOL_VERSION, RunDirectory

# Composing a config in another test may leave Hydra's logging at debug, and filelock says a lot there.
logging.getLogger("filelock").setLevel(logging.WARNING)

MakeConfig = Callable[..., Config]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    def make(connection: str = "mhc", seed: int = 0, **fields: Any) -> Config:
        return Config(
            seed=seed,
            connection=ConnectionConfig(name=connection),
            train=fields.pop("train", TrainConfig(steps=4)),
            runtime=RuntimeConfig(results=str(tmp_path / "results")),
            **fields,
        )

    return make


@pytest.fixture
def make_run() -> Callable[..., RunDirectory]:
    def make(config: Config, status: str = "finished", seconds: float = 0.5, cpu: str = "") -> RunDirectory:
        """Write what a run of `config` would write, with losses that fall by 1 a step from 10."""
        run = RunDirectory.of(config)
        steps = config.train.steps
        with run.locked():
            run.write_config(config)
            run.write_manifest(
                {
                    "run_id": run.run_id,
                    "protocol_version": PROTOCOL_VERSION,
                    "commit": "c0ffee",
                    "dirty": False,
                    "fingerprint": {"cpu": cpu},
                    "parameters": {"body": 90, "connection": 10, "total": 100},
                    "sessions": [{"commit": "c0ffee", "from_step": 0}],
                }
            )
            for name in ("gains", "tokens"):
                run.table(name).append({"step": 0, "layer": 1})
            metrics = run.table("metrics")
            metrics.append({"step": 0, "gain/activation": 1.0, "time/probe": 1.0})
            for step in range(1, steps + 1):
                metrics.append({"step": step, "loss/train": 10.0 - step, "time/step": seconds})
            if status == "finished":
                metrics.truncate(steps - 1)
                last = {"step": steps, "loss/train": 10.0 - steps, "time/step": seconds}
                metrics.append({**last, "loss/val": 1.5, "bpc/test": 2.25})
                run.finish_tables()
            run.write_status(status=status, step=steps, steps=steps, wall_seconds=3.5)
        return run

    return make
