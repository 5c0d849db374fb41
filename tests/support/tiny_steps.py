"""Steps of the models that the fixture `tiny` makes, and how far apart their streams are."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.config import OptimConfig
from mhc_repro.training.optim import make_optimizer

VOCAB, SEQUENCE = 17, 6


def tokens(batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    drawn = torch.randint(VOCAB, (batch, SEQUENCE + 1), generator=torch.Generator().manual_seed(seed))
    return drawn[:, :-1], drawn[:, 1:]


def train(model: Any, steps: int, **settings: Any) -> None:
    """Make `steps` updates, and leave the gradients of the batch after them."""
    optimizer = make_optimizer(model, OptimConfig(**{"lr": 1e-2} | settings))
    for step in range(steps + 1):
        optimizer.zero_grad()
        inputs, targets = tokens(seed=step)
        functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).backward()
        if step < steps:
            optimizer.step()


@torch.no_grad()
def spread(model: Any) -> list[float]:
    """Relative spread between streams before the trunk and after each sub-layer."""
    found: list[Tensor] = []
    model(tokens()[0], lambda _, x, *__: found.append((x - x.mean(2, keepdim=True)).norm() / x.norm()))
    return [each.item() for each in found]
