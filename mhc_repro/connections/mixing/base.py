"""What every parametrisation of H_res offers, and the start that all of them share in a comparison.

App. A.6 of mHC's ICML version, as others quote it, starts H_res at SK(6 I - 3): off the diagonal
e^-3 / (e^3 + (n - 1) e^-3). An arm that starts elsewhere would differ by its start as much as by its
constraint, so where a setting called `start` is null a family starts as far from I, in the Frobenius
norm, as A.6 does (but `orthogonal` of two streams, which starts at I, and `mean_permutations`, whose
share of the mean comes on top).
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mhc_repro.errors import UserError


@dataclass(frozen=True)
class Mixing(ABC):
    """A parametrisation of H_res for n streams; its fields are what `connection.mixing` may hold."""

    n: int
    # Meant to be: a run whose rows or columns do not sum to 1 is flagged.
    doubly_stochastic: ClassVar[bool] = False
    learns_alpha: ClassVar[bool] = True  # otherwise the gate on its numbers stays at its start

    @property
    @abstractmethod
    def size(self) -> int:
        """Return how many numbers a token needs."""

    def at(self, layer: int) -> "Mixing":
        """Return what sub-layer `layer` (from 0) makes its H_res with: the same in all of them, unless said."""
        return self

    @abstractmethod
    def initial(self) -> Tensor:
        """Return where the static part of these numbers starts: (size,)."""

    @abstractmethod
    def matrix(self, numbers: Tensor) -> Tensor:
        """Make H_res of every token: (size, N) -> (n, n, N)."""


@dataclass(frozen=True)
class Square(Mixing):
    """What kinds share whose numbers are the n x n entries, or logits, of H_res."""

    start: tuple[float, float] = (-3.0, 3.0)  # [off the diagonal, on it]; App. A.6: 6 I - 3

    @property
    def size(self) -> int:
        return self.n**2

    def initial(self) -> Tensor:
        return off_and_diagonal(self.n, self.start)


@dataclass(frozen=True)
class Fixed(Mixing):
    """What kinds share whose H_res has nothing to learn: doubly stochastic, all of them."""

    doubly_stochastic = True

    @property
    def size(self) -> int:
        return 0

    def initial(self) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)


def must(
    mixing: Any, name: str, holds: bool, be: str, *, example: object = None, papers: object = None
) -> None:
    """Raise UserError, with a value that fits, unless a field of `connection.mixing` holds what it must."""
    if not holds:
        usual = f"connection.mixing.{name}={example if papers is None else papers}"
        mend = f"for example {usual}" if papers is None else f"the paper's is {usual}"
        raise UserError(f"connection.mixing.{name}={getattr(mixing, name)} must be {be}; {mend}")


def off_and_diagonal(n: int, start: tuple[float, float]) -> Tensor:
    """Return the n x n matrix of one number off the diagonal and one on it, row by row: (n n,)."""
    off, diagonal = start
    return (off + (diagonal - off) * torch.eye(n, dtype=torch.float64)).flatten()


def a6_off_diagonal(n: int) -> float:
    """Return what App. A.6 has off the diagonal of H_res; 1 minus (n - 1) times it is on the diagonal."""
    return math.exp(-3) / (math.exp(3) + (n - 1) * math.exp(-3))


def a6_distance(n: int) -> float:
    """Return ||H_res - I||_F at the start of App. A.6."""
    return n * math.sqrt(n - 1) * a6_off_diagonal(n)


def as_near_as_a6(mixing: Mixing, numbers: Callable[[float], Tensor], low: float, high: float) -> Tensor:
    """Find t in [low, high] where H_res of `numbers(t)` is as far from I as A.6's; the distance grows with t.

    UserError where it is not so far at `high`.
    """
    eye, target = torch.eye(mixing.n, dtype=torch.float64), a6_distance(mixing.n)

    def is_nearer(t: float) -> bool:
        return (mixing.matrix(numbers(t)[:, None])[..., 0] - eye).norm().item() < target

    if is_nearer(high):
        raise UserError(
            f"connection.n={mixing.n}: near I no H_res of this kind is as far from it as App. A.6's, {target:.3g}; "
            "say where it is to start, with connection.mixing.start="
        )
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_nearer(middle) else (low, middle)
    return numbers(low)


def normal_numbers(count: int, seed: int = 0) -> Tensor:
    """Draw from N(0, 1) with Python's generator, whose numbers are the same on every machine."""
    draw = random.Random(seed)
    return torch.tensor([draw.gauss(0.0, 1.0) for _ in range(count)], dtype=torch.float64)


def tokens_first(matrices: Tensor) -> Tensor:
    """(n, n, N) -> (N, n, n), as torch's matrix functions want it."""
    return matrices.permute(2, 0, 1)


def tokens_last(matrices: Tensor) -> Tensor:
    """(N, n, n) -> (n, n, N)."""
    return matrices.permute(1, 2, 0)
