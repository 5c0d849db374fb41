"""H_res without a constraint, and H_res that nothing changes: HC's own form, and the controls."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Fixed, Square, must, normal_numbers
from mhc_repro.connections.sinkhorn import sinkhorn


@dataclass(frozen=True)
class Free(Square):
    """H_res = the numbers themselves (HC, arXiv 2409.19606; mHC paper Eq. 5): no constraint."""

    start: tuple[float, float] = (0.0, 1.0)

    def matrix(self, numbers: Tensor) -> Tensor:
        return numbers.unflatten(0, (self.n, self.n))


@dataclass(frozen=True)
class Identity(Fixed):
    """H_res = I, nothing to learn: the control that isolates mixing."""

    def matrix(self, numbers: Tensor) -> Tensor:
        eye = torch.eye(self.n, dtype=numbers.dtype, device=numbers.device)
        return eye[..., None].expand(self.n, self.n, numbers.shape[-1])


@dataclass(frozen=True)
class Uniform(Fixed):
    """H_res = J/n, nothing to learn: every sub-layer averages all streams, and no gain shows it."""

    def matrix(self, numbers: Tensor) -> Tensor:
        return numbers.new_full((1, 1, 1), 1 / self.n).expand(self.n, self.n, numbers.shape[-1])


@dataclass(frozen=True)
class RandomMixing(Fixed):
    """H_res = one random doubly stochastic matrix, nothing to learn: is it the constraint or the learning?

    Sinkhorn of e^g, g ~ N(0, 1) from `seed`, the same in every sub-layer.
    """

    seed: int = 0
    values: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        must(self, "seed", self.seed >= 0, "0 or more", example=0)  # of -1 Python draws what it draws of 1
        numbers = normal_numbers(self.n**2, self.seed).view(self.n, self.n)
        object.__setattr__(self, "values", sinkhorn(numbers, 1000))

    def matrix(self, numbers: Tensor) -> Tensor:
        return self.values.to(numbers, non_blocking=True)[..., None].expand(self.n, self.n, numbers.shape[-1])
