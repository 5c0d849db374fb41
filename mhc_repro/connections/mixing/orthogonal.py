"""H_res from orthogonal matrices: as they are, squared entry by entry, or squared and summed over blocks.

The squares of an orthogonal matrix's entries are doubly stochastic. But the square has no slope at 0:
at H_res = I no entry off the diagonal gets a gradient, so those families start beside it, in a
fixed direction drawn once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.exponent import of_order_1
from mhc_repro.connections.mixing.base import (
    Mixing,
    as_near_as_a6,
    must,
    normal_numbers,
    off_and_diagonal,
    tokens_first,
    tokens_last,
)
from mhc_repro.errors import UserError

LARGEST = (
    2.0**14
)  # of a skew matrix: beyond it float32 has no inverse that is orthogonal, and from 1e8 on none


def skew(numbers: Tensor, m: int) -> Tensor:
    """Fill W = Z - Z^T from the numbers of Z above the diagonal, row by row: (m (m - 1) / 2, N) -> (N, m, m)."""
    row, column = torch.triu_indices(m, m, 1, device=numbers.device).unbind(0)
    upper = numbers.new_zeros(numbers.shape[-1], m, m)
    upper[:, row, column] = numbers.T
    return upper - upper.transpose(1, 2)


def cayley(generator: Tensor) -> Tensor:
    """Return (I + W) (I - W)^-1, orthogonal for skew W: (N, m, m) -> (N, m, m).

    An entry beyond LARGEST counts as that: it turns its plane by half a turn, to within 2 / LARGEST.
    """
    generator = generator.clamp(-LARGEST, LARGEST)
    eye = torch.eye(generator.shape[-1], dtype=generator.dtype, device=generator.device)
    # inv would wait for a GPU to say whether there is an inverse, which there always is.
    return 2 * torch.linalg.inv_ex(eye - generator).inverse - eye


@dataclass(frozen=True)
class Orthogonal(Mixing):
    """H_res = (I + a/2 W)(I - a/2 W)^-1, W = Z - Z^T: spectral norm 1, gains at most sqrt(n).

    With `steps`, the fixed-point steps Y <- I + a/2 W (I + Y) from Y = I + a W that JPmHC (arXiv
    2602.18308) takes two of: orthogonal only near I, so without a bound.
    """

    start: float | None = None  # of Z along the cyclic shift, whose rows sum to 0; null: as near as A.6
    scale: float = 1.0  # a; JPmHC's is 0.1
    steps: int = 0  # 0: exact

    def __post_init__(self) -> None:
        must(self, "steps", self.steps >= 0, "0 (exact) or more", example=2)
        if self.scale == 0:
            raise UserError(
                "connection.mixing.scale=0: H_res is I, whatever is learned; "
                "for example connection.mixing.scale=1, or connection.mixing.kind=identity"
            )

    @property
    def size(self) -> int:
        return self.n * (self.n - 1) // 2

    def initial(self) -> Tensor:
        # The shift of two streams is its own transpose: W = 0, and they start at I.
        if self.start is None and self.n > 2:
            return as_near_as_a6(self, self._numbers, 0.0, 0.1 / self.scale)
        return self._numbers(self.start or 0.0)

    def _numbers(self, t: float) -> Tensor:
        shift = torch.eye(self.n, dtype=torch.float64).roll(1, dims=1)
        row, column = torch.triu_indices(self.n, self.n, 1)
        return t * (shift - shift.T)[row, column]

    def matrix(self, numbers: Tensor) -> Tensor:
        half = skew(numbers * (self.scale / 2), self.n)
        if self.steps == 0:
            return tokens_last(cayley(half))
        eye = torch.eye(self.n, dtype=numbers.dtype, device=numbers.device)
        result = eye + 2 * half
        for _ in range(self.steps):
            result = eye + half @ (eye + result)
        return tokens_last(result)


@dataclass(frozen=True)
class BlockOrthostochastic(Mixing):
    """H_res_ij = 1/s times the sum of Q^2 over the s x s block (i, j) (go-mHC, arXiv 2604.02309).

    Q = (I - A)(I + A)^-1 is n s x n s, A = Theta - Theta^T. s = 1 gives the orthostochastic matrices,
    s = 2 nearly all doubly stochastic ones. Only the numbers of Theta above the diagonal are kept,
    since only Theta - Theta^T acts; with both halves Adam would move it twice as far a step.
    """

    doubly_stochastic = True
    start: float | None = None  # std of Theta, drawn once; null: as near to I as A.6
    s: int = 2

    def __post_init__(self) -> None:
        must(self, "s", self.s >= 1, "1 or more", papers=2)
        if self.start == 0:
            raise UserError(
                "connection.mixing.start=0: at Theta = 0 every gradient is zero; "
                "for example connection.mixing.start=0.01"
            )

    @property
    def size(self) -> int:
        return self.n * self.s * (self.n * self.s - 1) // 2

    def initial(self) -> Tensor:
        if self.start is None and self.n > 1:
            return as_near_as_a6(self, self._numbers, 0.0, 0.1)
        return self._numbers(self.start or 0.01)

    def _numbers(self, std: float) -> Tensor:
        return std * normal_numbers(self.size)

    def matrix(self, numbers: Tensor) -> Tensor:
        squares = cayley(-skew(numbers, self.n * self.s)).square()
        blocks = squares.unflatten(2, (self.n, self.s)).unflatten(1, (self.n, self.s))
        return tokens_last(blocks.sum((2, 4)) / self.s)


@dataclass(frozen=True)
class Orthostochastic(Mixing):
    """H_res = O * O entrywise, O by Newton-Schulz from logits / ||logits||_F.

    X <- 3 X - 3.2 A X + 1.2 A^2 X, A = X X^T, whose error shrinks by 0.6 a step: doubly stochastic in the limit, of
    logits that are invertible. Of random 4 x 4 logits, five steps leave the sums of one in twenty off by more than
    0.2, so there is no bound.
    """

    doubly_stochastic = True
    start: tuple[float, float] | None = None  # [off, on] the diagonal; null: as near to I as A.6
    steps: int = 20

    def __post_init__(self) -> None:
        must(self, "steps", self.steps >= 1, "1 or more", example=20)

    @property
    def size(self) -> int:
        return self.n**2

    def initial(self) -> Tensor:
        if self.start is None:
            return as_near_as_a6(self, self._numbers, 0.0, 0.1)
        return off_and_diagonal(self.n, self.start)

    def _numbers(self, t: float) -> Tensor:
        drawn = normal_numbers(self.n**2).view(self.n, self.n)
        return (torch.eye(self.n, dtype=torch.float64) + t * (drawn - drawn.T)).flatten()

    def matrix(self, numbers: Tensor) -> Tensor:
        numbers = of_order_1(numbers, 0)  # or their squares would be nothing, or no numbers
        norm = torch.linalg.vector_norm(numbers, dim=0).clamp_min(torch.finfo(numbers.dtype).tiny)
        x = tokens_first((numbers / norm).unflatten(0, (self.n, self.n)))
        for _ in range(self.steps):
            gram = x @ x.transpose(1, 2)
            x = 3 * x + (1.2 * gram @ gram - 3.2 * gram) @ x
        return tokens_last(x.square())
