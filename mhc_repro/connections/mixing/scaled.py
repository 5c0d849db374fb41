"""H_res made stochastic by normalising positive numbers: mHC's Sinkhorn and what is near it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Mixing, Square, a6_off_diagonal, must, off_and_diagonal
from mhc_repro.connections.sinkhorn import sinkhorn


@dataclass(frozen=True)
class Sinkhorn(Square):
    """H_res = SK(logits), doubly stochastic up to truncation (mHC, arXiv 2512.24880, Eq. 8-9)."""

    doubly_stochastic = True
    iterations: int = 20
    order: str = "columns_first"  # Eq. 9: rows come last and are exact | rows_first: the columns are
    temperature: float = 1.0  # exp(logits / temperature)
    # unrolled: through the iterations (the paper) | implicit: of their limit, at what they reached
    gradient: str = "unrolled"
    eps: float = 0.0  # added to the first softmax and to every sum after it (DeepSeek's kernels: 1e-6)
    clamp: bool = False  # a row that sums to more than 1 is divided by its sum (xHC, arXiv 2607.14530)

    def __post_init__(self) -> None:
        _check_scaling(self)
        fits = self.eps >= 0 and not (self.eps and self.gradient == "implicit")
        alone = "0 or more, and 0 with connection.mixing.gradient=implicit"
        must(self, "eps", fits, alone, example="1e-6")
        for name, choices in (
            ("order", ("columns_first", "rows_first")),
            ("gradient", ("unrolled", "implicit")),
        ):
            allowed = f"one of {', '.join(choices)}"
            must(self, name, getattr(self, name) in choices, allowed, papers=choices[0])

    def matrix(self, numbers: Tensor) -> Tensor:
        square = numbers.unflatten(0, (self.n, self.n))
        if self.temperature != 1:
            square = square / self.temperature
        turned = self.order == "rows_first"
        made = sinkhorn(
            square.transpose(0, 1) if turned else square, self.iterations, self.gradient, self.eps
        )
        made = made.transpose(0, 1) if turned else made
        return made / made.sum(1, keepdim=True).clamp_min(1) if self.clamp else made


@dataclass(frozen=True)
class RowStochastic(Square):
    """H_res = softmax of each row: gain 1 forward, at most n backward. Is one marginal enough?"""

    def matrix(self, numbers: Tensor) -> Tensor:
        return numbers.unflatten(0, (self.n, self.n)).softmax(1)


@dataclass(frozen=True)
class ColumnStochastic(Square):
    """H_res = softmax of each column: gain 1 backward, at most n forward. The other marginal alone (osHC)."""

    def matrix(self, numbers: Tensor) -> Tensor:
        return numbers.unflatten(0, (self.n, self.n)).softmax(0)


@dataclass(frozen=True)
class SwitchedMarginals(RowStochastic):
    """osHC: rows sum to 1 in the first sub-layers and columns in those after.

    No gain of a product, nor its spectral norm, is then more than n (of one marginal alone: the norm, sqrt(n)).
    (OpenReview 1BC0eYN2uS; that it switches along the depth is our reading.)
    """

    first: int = 4  # sub-layers whose rows sum to 1

    def __post_init__(self) -> None:
        must(self, "first", self.first >= 0, "0 or more", papers=4)

    def at(self, layer: int) -> Mixing:
        return self if layer < self.first else ColumnStochastic(self.n, self.start)


@dataclass(frozen=True)
class IdentityMix(Mixing):
    """H_res = (1 - a) I + a SK(logits), a = sigmoid(the last number): mixing in small doses."""

    doubly_stochastic = True
    start: tuple[float, float] = (0.0, 0.0)
    share: float | None = None  # a at the start; null: with the start above, A.6's own matrix
    iterations: int = 20
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _check_scaling(self)
        fits = self.share is None or 0 < self.share < 1
        must(self, "share", fits, "null, or more than 0 and less than 1", example=0.01)

    @property
    def size(self) -> int:
        return self.n**2 + 1

    def initial(self) -> Tensor:
        share = self.n * a6_off_diagonal(self.n) if self.share is None else self.share
        last = torch.tensor([math.log(share / (1 - share))], dtype=torch.float64)
        return torch.cat([off_and_diagonal(self.n, self.start), last])

    def matrix(self, numbers: Tensor) -> Tensor:
        mixed = sinkhorn(numbers[:-1].unflatten(0, (self.n, self.n)) / self.temperature, self.iterations)
        eye = torch.eye(self.n, dtype=numbers.dtype, device=numbers.device)[..., None]
        return eye + numbers[-1].sigmoid() * (mixed - eye)


def _check_scaling(mixing: Sinkhorn | IdentityMix) -> None:
    must(mixing, "iterations", 1 <= mixing.iterations <= 10_000, "from 1 to 10,000", papers=20)
    must(mixing, "temperature", mixing.temperature > 0, "more than 0", papers=1)
