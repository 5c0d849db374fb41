"""Amax gains of stacks of H_res (mHC, arXiv 2512.24880, Sec. 3.1): pure functions on tensors.

H_res comes as (L, ..., n, n), sub-layers first, any token dimensions between, row i holding the
weights that form output stream i. Row sums then bound the signal going forward, column sums the
gradient going back. The two composites at sub-layer l are different products:

    forward   H_l H_(l-1) ... H_1        from the input up to l
    backward  H_L H_(L-1) ... H_l        from l up to the output

Products are taken per token, then averaged over tokens; the gain is the largest absolute row
(column) sum, signed entries summed as they are. A residual baseline has gain exactly 1 everywhere.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class AmaxGains(NamedTuple):
    """Gains at each of L sub-layers, as float tensors (L,)."""

    single_forward: Tensor
    single_backward: Tensor
    composite_forward: Tensor
    composite_backward: Tensor


def composite_forward(h_res: Tensor) -> Tensor:
    """Multiply H_l ... H_1 for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    products = [h_res[0]]
    for h in h_res[1:]:
        products.append(h @ products[-1])
    return torch.stack(products)


def composite_backward(h_res: Tensor) -> Tensor:
    """Multiply H_L ... H_l for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    products = [h_res[-1]]
    for h in h_res[:-1].flip(0):
        products.append(products[-1] @ h)
    return torch.stack(products).flip(0)


def forward_gain(matrix: Tensor) -> Tensor:
    """Return the largest absolute row sum: (..., n, n) -> (...)."""
    return matrix.sum(-1).abs().amax(-1)


def backward_gain(matrix: Tensor) -> Tensor:
    """Return the largest absolute column sum: (..., n, n) -> (...)."""
    return matrix.sum(-2).abs().amax(-1)


def token_mean(matrix: Tensor) -> Tensor:
    """Average over all token dimensions: (L, ..., n, n) -> (L, n, n)."""
    return matrix.flatten(1, -3).mean(1) if matrix.dim() > 3 else matrix


def amax_gains(h_res: Tensor) -> AmaxGains:
    """Measure single and composite amax gains of h_res (L, ..., n, n) (mHC Sec. 3.1, Figs. 3 and 7).

    Computed in the dtype given; pass float64 where products of many layers must be exact.
    """
    if h_res.dim() < 3 or h_res.shape[-1] != h_res.shape[-2]:
        raise ValueError(f"h_res has shape {tuple(h_res.shape)}; it must be (L, ..., n, n)")
    single = token_mean(h_res)
    return AmaxGains(
        forward_gain(single),
        backward_gain(single),
        forward_gain(token_mean(composite_forward(h_res))),
        backward_gain(token_mean(composite_backward(h_res))),
    )
