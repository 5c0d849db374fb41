"""H_res as a Kronecker product of 2 x 2 mixtures of I and the swap: doubly stochastic exactly, and cheap."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Mixing, as_near_as_a6
from mhc_repro.errors import UserError


@dataclass(frozen=True)
class Kronecker(Mixing):
    """H_res = U_1 (x) ... (x) U_K, U = [[p, 1 - p], [1 - p, p]], n = 2^K (KromHC, arXiv 2601.21579).

    Two numbers a factor, p their softmax. All such matrices are symmetric and commute: K degrees of
    freedom of the (n - 1)^2 that doubly stochastic matrices have.
    """

    doubly_stochastic = True
    start: float | None = None  # of the swap, where I's is 0; null: as near to I as A.6

    def __post_init__(self) -> None:
        if self.n.bit_count() != 1:
            below = 1 << (self.n.bit_length() - 1)
            raise UserError(
                f"connection.n={self.n}: Kronecker factors are 2 x 2, so n must be a power of two; "
                f"for example connection.n={below}"
            )

    @property
    def size(self) -> int:
        return 2 * (self.n.bit_length() - 1)

    def initial(self) -> Tensor:
        if self.start is None and self.n > 1:
            return as_near_as_a6(self, self._numbers, -50.0, 0.0)
        return self._numbers(self.start or 0.0)

    def _numbers(self, swap: float) -> Tensor:
        return torch.tensor([0.0, swap], dtype=torch.float64).repeat(self.size // 2)

    def matrix(self, numbers: Tensor) -> Tensor:
        product = numbers.new_ones(1, 1, numbers.shape[-1])
        for keep, swap in numbers.unflatten(0, (-1, 2)).softmax(1).unbind(0) if self.size else ():
            factor = torch.stack([torch.stack([keep, swap]), torch.stack([swap, keep])])
            product = (product[:, None, :, None] * factor[None, :, None]).flatten(0, 1).flatten(1, 2)
        return product
