"""One connection off its start, streams for it, a branch, its gradients, and the sums of equations typed in."""

import math

import torch
from torch import Tensor

from drawn_numbers import drawn
from mhc_repro.connections import build
from own_models import stirred

DIM = 5


def awake(settings, layer: int = 1, dim: int = DIM, by: float = 0.5):
    """A float64 connection whose every parameter is off its start, so that all maps depend on the input."""
    return stirred(build(settings, layer, dim).double(), seed=layer, by=by)


def streams(n: int, tokens: int = 3, dim: int = DIM) -> Tensor:
    return drawn(1, tokens, n, dim, seed=5)


def branch(h: Tensor) -> Tensor:
    """A branch that is neither linear nor the same for all features."""
    return h.sin() + torch.arange(h.shape[-1], dtype=h.dtype)


def check_gradients(module, x: Tensor, branch=branch) -> None:
    """Hold the gradients of streams and H_res, in all parameters and x, to finite differences."""
    parameters = dict(module.named_parameters())
    leaves = tuple(each.detach().clone().requires_grad_() for each in (x, *parameters.values()))

    def call(x: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        state = dict(zip(parameters, values, strict=True))
        passed = torch.func.functional_call(module, state, (x, branch))
        return passed.streams, passed.maps.mix

    assert torch.autograd.gradcheck(call, leaves, eps=1e-6, atol=1e-7, rtol=1e-6, fast_mode=True)


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def rms(x: list[float]) -> float:
    return math.sqrt(dot(x, x) / len(x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
