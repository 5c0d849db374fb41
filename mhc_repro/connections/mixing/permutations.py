"""H_res as a weighted mean of all permutations: doubly stochastic exactly, any such matrix, n! numbers."""

import math
from dataclasses import dataclass, field, replace
from itertools import permutations

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Mixing, a6_off_diagonal, must
from mhc_repro.errors import UserError

LARGEST = 4  # 5! = 120 numbers a token would cost more than the branch


@dataclass(frozen=True)
class Permutations(Mixing):
    """H_res = sum_k softmax(logits)_k P_k over the n! permutations, I first (mHC-lite, arXiv 2601.05732)."""

    doubly_stochastic = True
    start: float | None = None  # of all permutations but I, whose is 0; null: A.6's own matrix
    basis: Tensor = field(init=False, repr=False, compare=False)  # (n n, n!)

    def __post_init__(self) -> None:
        if self.n > LARGEST:
            raise UserError(
                f"connection.n={self.n}: mixtures of permutations take n! = {math.factorial(self.n):,} numbers "
                f"a token; n may be 1 to {LARGEST}, for example connection.n={LARGEST}"
            )
        eye = torch.eye(self.n)
        basis = torch.stack([eye[list(order)].flatten() for order in permutations(range(self.n))], dim=1)
        object.__setattr__(self, "basis", basis)

    @property
    def size(self) -> int:
        return math.factorial(self.n)

    def initial(self) -> Tensor:
        if self.start is None:
            # All permutations but I sum to (n - 1)! J - I.
            other = a6_off_diagonal(self.n) / math.factorial(self.n - 1)
            start = math.log(other / (1 - (self.size - 1) * other))
        else:
            start = self.start
        numbers = torch.full((self.size,), start, dtype=torch.float64)
        numbers[0] = 0
        return numbers

    def matrix(self, numbers: Tensor) -> Tensor:
        return (self.basis.to(numbers, non_blocking=True) @ numbers.softmax(0)).unflatten(0, (self.n, self.n))


@dataclass(frozen=True)
class MeanPermutations(Permutations):
    """cmHC: sum_k a_k [g P_k + (1 - g) J/n], mHC-lite's matrix with a share 1 - g of the mean of all streams.

    g is 0.8 in the first two sub-layers and 1 after, so that no H_res there is near I, nor near J/n at the start
    (OpenReview NH0KjaJepH: too little and too much mixing both hurt).
    """

    share: float = 0.8  # g
    first: int = 2  # sub-layers that have it

    def __post_init__(self) -> None:
        super().__post_init__()
        must(self, "share", 0 <= self.share <= 1, "from 0 to 1", papers=0.8)
        must(self, "first", self.first >= 0, "0 or more", papers=2)

    def at(self, layer: int) -> Mixing:
        return self if layer < self.first else replace(self, share=1.0)

    def matrix(self, numbers: Tensor) -> Tensor:
        return self.share * super().matrix(numbers) + (1 - self.share) / self.n
