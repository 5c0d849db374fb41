"""Tables of an arm that was trained for a few steps, for verdicts on them."""

import copy

import pandas as pd
import pytest
import torch

from judged_tables import EVERY, STEPS
from mhc_repro.runs.identity import resolved, run_id
from mhc_repro.training.trainer import Trainer


@pytest.fixture(scope="session")
def trained() -> dict[str, tuple[pd.DataFrame, pd.DataFrame, dict]]:
    return {}


@pytest.fixture
def tables(config, trained):
    def tables(arm: str, lr: float = 1e-2, **changes) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
        """Train 20 steps in float32, as real runs do; return gains, metrics and the resolved config."""
        made = config(arm, steps=STEPS, train={"precision": "float32"}, probe={"every": EVERY}, **changes)
        made.optim.lr = lr
        if (name := run_id(made)) not in trained:
            trained[name] = train(made)
        return copy.deepcopy(trained[name])

    def train(made):
        trainer = Trainer(made, torch.device("cpu"))
        metrics, gains = [], []
        for step in range(STEPS + 1):
            row = trainer.step() if step else {"step": 0}
            if step % EVERY == 0:
                measured, rows, _, _ = trainer.measure()
                row |= measured
                gains += rows
            metrics.append(row)
        return pd.DataFrame(gains), pd.DataFrame(metrics), resolved(made)

    return tables
