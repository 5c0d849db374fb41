"""H_res bounded without the polytope: the numbers themselves, divided by one number a matrix or a row.

Twins of `Free`, with its numbers and its start: entries keep their signs and have no bound of their own, so that
what a bounded gain does can be told from what the Birkhoff polytope does.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.mixing.plain import Free


@dataclass(frozen=True)
class Spectral(Free):
    """H_res = M / sigma_1(M): no product of them lengthens a vector, so gains stay within sqrt(n).

    It is not finite for M = 0, which has no direction.
    """

    def matrix(self, numbers: Tensor) -> Tensor:
        square = super().matrix(numbers)
        return square / spectral_norm(square)


@dataclass(frozen=True)
class SignedRows(Free):
    """H_res = each row over its signed sum: forward gain 1 at any depth, entries without a bound.

    A sum of 0 is a pole, on whose two sides a row has opposite signs. Nothing softens it: a sum counts as no
    smaller than the smallest normal number, its sign kept, and a row that passes the largest number is inf.
    """

    def matrix(self, numbers: Tensor) -> Tensor:
        square = super().matrix(numbers)
        sums = square.sum(1, keepdim=True)
        return square / sums.abs().clamp_min(torch.finfo(sums.dtype).tiny).copysign(sums)


def spectral_norm(matrices: Tensor) -> Tensor:
    """Return the largest singular value of each matrix, to rounding: (n, n, N) -> (N,).

    Its gradient is u v^T, of the singular vectors on both sides. Where k values share the top it is the mean of
    their k outer products, the centre of the subgradients. There is no second derivative.
    """
    return (matrices * _outer_product(matrices)).sum((0, 1))  # sigma is linear along M: sigma = <M, u v^T>


@torch.no_grad()
def _outer_product(matrices: Tensor) -> Tensor:
    """u v^T = M P / sigma, P the projector onto the top of M^T M: its 2^k-th power, of trace 1.

    A value of x times the top weighs x^(2^(k+1)) and lowers sigma^2 by at most 1 - x^2 times that, of which the
    largest is 2^-k / e; so k is the bits of the number format. A power converges however near the values
    lie, and takes no branch: vectors of a degenerate top need not be told apart.
    """
    matrices = matrices / matrices.abs().amax((0, 1))
    power = _gram(matrices)
    for _ in range(int(-math.log2(torch.finfo(matrices.dtype).eps))):
        power = _gram(power / _trace(power))
    image = (matrices[:, :, None] * (power / _trace(power))).sum(1)
    return image / (matrices * image).sum((0, 1)).sqrt()


def _gram(matrices: Tensor) -> Tensor:
    """M^T M; the square of a symmetric matrix."""
    return (matrices[:, :, None] * matrices[:, None]).sum(0)


def _trace(matrices: Tensor) -> Tensor:
    return matrices.flatten(0, 1)[:: len(matrices) + 1].sum(0)
