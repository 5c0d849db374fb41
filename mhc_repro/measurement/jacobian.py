"""The true gain: how far a change of a token's embedding moves what the head reads at that token.

A gain of H_res is one basis's number and leaves the branches out. The Jacobian of the whole trunk, final norm
included, has neither fault. Gains are relative, in units of |z| per |e|, since a factor on all embeddings means
nothing to a pre-norm net. `relative_gains` is exact: J = d z_i / d e_i of a token i, row by row by reverse mode.
`power_gains` is of all tokens at once, whose matrix nothing would hold, and its worst a lower bound.
"""

from collections.abc import Callable
from math import inf, nan

import torch
from torch import Tensor

from mhc_repro.connections.exponent import order, power_of_two
from mhc_repro.connections.wide import wide

COPIES = 64  # rows of J that one backward makes


def token_jacobian(trunk: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return d trunk(x)[-1] / d x[-1], (C, C), of the last token of one sequence x (T, C)."""
    rows = []
    for first in range(0, x.shape[1], COPIES):
        count = min(COPIES, x.shape[1] - first)
        copies = x.detach().expand(count, -1, -1).clone().requires_grad_()
        with torch.enable_grad():
            picked = trunk(copies)[:, -1].diagonal(first)[:count].sum()
            (gradient,) = torch.autograd.grad(picked, copies)
        rows.append(gradient[:, -1])
    return torch.cat(rows)


def relative_gains(trunk: Callable[[Tensor], Tensor], sequences: Tensor) -> tuple[float, float]:
    """Return the mean over sequences (B, T, C) of the last token's gain of a random and of the worst direction."""
    random, worst = [], []
    for x in sequences:
        jacobian = token_jacobian(trunk, x).double()
        unit = x[-1].double().norm() / trunk(x[None])[0, -1].double().norm()
        values = torch.linalg.svdvals(jacobian) * unit if jacobian.isfinite().all() else unit * torch.nan
        random.append(values.square().mean().sqrt())
        worst.append(values.max())
    return torch.stack(random).mean().item(), torch.stack(worst).mean().item()


def power_gains(
    function: Callable[[Tensor], Tensor], x: Tensor, generator: torch.Generator, iterations: int = 8
) -> tuple[float, float]:
    """Return the gain of a random and of the worst direction of x (...) through `function`, of all tokens at once.

    Power iteration on J^T J, which makes no row of J: J v by central differences, J^T u by reverse mode. An
    iteration costs five forwards; the worst gain is a lower bound, close where the first singular value is alone.
    NaN where x is not finite, or 0: no change of it is relative to it.
    """
    x = x.detach()
    scaled, power = _scaled(x)
    sizes = scaled.norm(dim=-1)
    if not sizes.isfinite().all() or not sizes.any():
        return nan, nan
    unit = _norm(x) / (_norm(function(x)) or nan)
    v = torch.randn(x.shape, generator=generator).to(x)
    gains = []
    for _ in range(iterations):
        v = v / v.norm()
        # Iterations gather v on few tokens: none is moved by more than a small part of itself.
        reach = power * (sizes / v.norm(dim=-1))[sizes > 0].amin()
        small = torch.finfo(x.dtype).eps ** (1 / 3) * reach
        step = small * v
        moved = (function(x + step) - function(x - step)) / (2 * small)
        gains.append(_norm(moved) * unit)
        if not 0 < gains[-1] < inf:
            break
        with torch.enable_grad():
            at = x.clone().requires_grad_()
            (v,) = torch.autograd.grad(function(at), at, _scaled(moved)[0].to(moved))
        v = _scaled(v)[0].to(x)
        if not v.isfinite().all() or not v.any():
            break
    return gains[0], gains[-1]


def _scaled(x: Tensor) -> tuple[Tensor, float]:
    """Split x (...) into one of order 1 and a power of two: its squares may be out of range."""
    x = wide(x)
    exponent = order(x.flatten(), (0,))
    return x * power_of_two(-exponent, x.dtype), 2.0 ** int(exponent)


def _norm(x: Tensor) -> float:
    scaled, power = _scaled(x)
    return scaled.norm().item() * power
