"""A tiny net in training: weights that are the same on every machine, and the rows of a run without the clock."""

import numpy as np
import torch

from mhc_repro.training.trainer import Trainer

TIMES = ("time/step", "time/probe")


def without_clock(row: dict) -> dict:
    return {key: value for key, value in row.items() if key not in TIMES}


def fill(model) -> None:
    """Set every parameter from numpy's frozen generator: torch's normal draws differ between processors."""
    numbers = np.random.RandomState(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = torch.from_numpy(numbers.standard_normal(tuple(parameter.shape)))
            if name.endswith("alpha"):
                parameter.copy_(0.3 + 0.1 * drawn)
            elif name.endswith("norm.weight"):
                parameter.copy_(1 + 0.1 * drawn)
            elif name.startswith("connections."):
                parameter.add_(0.2 * drawn)
            else:
                parameter.copy_(0.3 * drawn)


def run(made: Trainer) -> list[dict]:
    """All metrics rows of a run."""
    rows = [{"step": 0} | made.measure().metrics]
    for _ in range(made.config.train.steps):
        rows.append(made.step() | made.measure().metrics)
    return [without_clock(row) for row in rows]
