"""What the tests of training share: runs that save at every step, for those that stop them, and a trainer."""

from collections.abc import Callable

import pytest

from stopping import checkpoints_at_every_step

__all__ = ["checkpoints_at_every_step"]


@pytest.fixture
def start(config: Callable) -> Callable:
    """start("hc", steps=5): a trainer of a tiny net on the CPU."""
    import torch

    from mhc_repro.training.trainer import Trainer

    return lambda arm, **settings: Trainer(config(arm, **settings), torch.device("cpu"))
