"""One connection off its start, streams for it and a branch."""

import torch
from torch import Tensor

from mhc_repro.connections import build
from own_models import stirred

DIM = 5


def awake(settings, layer: int = 1, dim: int = DIM, seed: int = 0):
    """A float64 connection whose every parameter is off its start, so that all maps depend on the input."""
    return stirred(build(settings, layer, dim).double(), seed, by=0.5)


def streams(n: int, tokens: int = 3, dim: int = DIM, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, tokens, n, dim, generator=generator, dtype=torch.float64)


def branch(h: Tensor) -> Tensor:
    """A branch that is neither linear nor the same for all features."""
    return h.sin() + torch.arange(h.shape[-1], dtype=h.dtype)
