"""H_res without a constraint, and H_res that nothing changes: HC's own form, and the controls."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import normal_numbers, off_and_diagonal
from mhc_repro.connections.sinkhorn import sinkhorn


@dataclass(frozen=True)
class Free:
    """H_res = the numbers themselves (HC, arXiv 2409.19606; mHC paper Eq. 5): no constraint."""

    n: int
    start: tuple[float, float] = (0.0, 1.0)  # [off the diagonal, on it]

    @property
    def size(self) -> int:
        return self.n**2

    def initial(self) -> Tensor:
        return off_and_diagonal(self.n, self.start)

    def matrix(self, logits: Tensor) -> Tensor:
        return logits.unflatten(0, (self.n, self.n))


@dataclass(frozen=True)
class Identity:
    """H_res = I, nothing to learn: the control that isolates mixing."""

    n: int

    @property
    def size(self) -> int:
        return 0

    def initial(self) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)

    def matrix(self, logits: Tensor) -> Tensor:
        eye = torch.eye(self.n, dtype=logits.dtype, device=logits.device)
        return eye[..., None].expand(self.n, self.n, logits.shape[-1])


@dataclass(frozen=True)
class Uniform:
    """H_res = J/n, nothing to learn: every sub-layer averages all streams, and no gain shows it."""

    n: int

    @property
    def size(self) -> int:
        return 0

    def initial(self) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)

    def matrix(self, logits: Tensor) -> Tensor:
        return logits.new_full((1, 1, 1), 1 / self.n).expand(self.n, self.n, logits.shape[-1])


@dataclass(frozen=True)
class RandomMixing:
    """H_res = one random doubly stochastic matrix, nothing to learn: is it the constraint or the learning?

    Sinkhorn of e^g, g ~ N(0, 1) from `seed`, the same in every sub-layer.
    """

    n: int
    seed: int = 0
    values: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        logits = normal_numbers(self.n**2, self.seed).view(self.n, self.n)
        object.__setattr__(self, "values", sinkhorn(logits, 1000))

    @property
    def size(self) -> int:
        return 0

    def initial(self) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)

    def matrix(self, logits: Tensor) -> Tensor:
        return self.values.to(logits)[..., None].expand(self.n, self.n, logits.shape[-1])
