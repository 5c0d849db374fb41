"""H_res by rotations with signed entries: of all four streams (oHC), or of what differs between streams (s2HC)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Mixing, as_near_as_a6, tokens_last
from mhc_repro.connections.mixing.orthogonal import cayley, skew
from mhc_repro.errors import UserError


def signs(rows: str) -> Tensor:
    """Read a 4 x 4 table of quaternion parts 1 i j k, a minus before some: (4, 4, 4), the last axis the part."""
    parts = {"1": 0, "i": 1, "j": 2, "k": 3}
    table = torch.zeros(16, 4)
    for at, word in enumerate(rows.split()):
        table[at, parts[word[-1]]] = -1 if word[0] == "-" else 1
    return table.view(4, 4, 4)


# Of q, the matrix of x -> q x; of r, that of x -> x conj(r).
LEFT = signs("1 -i -j -k  i 1 -k j  j k 1 -i  k -j i 1")
RIGHT = signs("1 i j k  -i 1 -k j  -j k 1 -i  -k -j i 1")
EPS = 1e-20  # beside 1 it rounds away, so that numbers of 0 are I to the last bit


@dataclass(frozen=True)
class Quaternions(Mixing):
    """H_res = L(q) R(conj r), x -> q x conj(r) of unit quaternions q and r: all of SO(4) (oHC, arXiv 2609.02672).

    q = v / |v|, v = (1 + l_0, l_1, l_2, l_3), and r likewise of l_4 to l_7. The gate alpha on its numbers stays at
    its start, since a learned one takes up the gradient's clip, as the paper has it. At v = 0 H_res is 0.
    """

    learns_alpha = False

    def __post_init__(self) -> None:
        if self.n != 4:
            raise UserError(
                f"connection.n={self.n}: two quaternions turn four streams; use connection.n=4, "
                "or connection.mixing.kind=orthogonal"
            )

    @property
    def size(self) -> int:
        return 8

    def initial(self) -> Tensor:
        return torch.zeros(8, dtype=torch.float64)

    def matrix(self, numbers: Tensor) -> Tensor:
        one = torch.eye(4, dtype=numbers.dtype, device=numbers.device)[0, :, None]
        q, r = ((each + one) for each in numbers.split(4))
        q, r = (each / (each.square().sum(0) + EPS).sqrt() for each in (q, r))
        left, right = (
            torch.tensordot(parts.to(numbers, non_blocking=True), each, 1)
            for parts, each in ((LEFT, q), (RIGHT, r))
        )
        return (left[:, :, None] * right[None]).sum(1)


@dataclass(frozen=True)
class SignedSums(Mixing):
    """H_res = J/n + Z U diag(tanh s) V^T Z^T: rows and columns of either sign sum to 1 (s2HC, 2603.20896).

    Z (n, n - 1) is the Helmert basis of what differs between streams, U and V Cayley transforms of skew matrices.
    Every gain of any product is exactly 1, whatever the entries: a control for the metric itself.
    """

    doubly_stochastic = True
    start: float | None = None  # of every s, where the paper's is 4; null: as near to I as A.6
    scale: float = 1.0  # of the skews, gamma tanh(z)

    @property
    def size(self) -> int:
        return (self.n - 1) ** 2

    def initial(self) -> Tensor:
        if self.start is None and self.n > 1:
            # The distance from I falls with s.
            return as_near_as_a6(self, lambda t: self._numbers(-t), -8.0, 0.0)
        return self._numbers(self.start or 0.0)

    def _numbers(self, s: float) -> Tensor:
        return torch.tensor([0.0] * (self.size - (self.n - 1)) + [s] * (self.n - 1), dtype=torch.float64)

    def matrix(self, numbers: Tensor) -> Tensor:
        m, tokens = self.n - 1, numbers.shape[-1]
        uniform = numbers.new_full((self.n, self.n, tokens), 1 / self.n)
        if m == 0:
            return uniform
        turns = (self.scale * numbers[:-m].tanh()).split(m * (m - 1) // 2) if m > 1 else ()
        core = numbers[-m:].T.tanh()  # (N, m)
        basis = helmert(self.n).to(numbers)
        if m == 1:
            return uniform + tokens_last(basis @ core[..., None] @ basis.mT)
        u, v = (basis @ cayley(skew(each, m)) for each in turns)
        return uniform + tokens_last(u * core[:, None] @ v.mT)


def helmert(n: int) -> Tensor:
    """Return an orthonormal basis of what sums to 0: (n, n - 1), column k of the first k + 2 streams."""
    columns = [
        torch.tensor([1.0] * k + [-float(k)] + [0.0] * (n - k - 1), dtype=torch.float64)
        / (k * (k + 1)) ** 0.5
        for k in range(1, n)
    ]
    return torch.stack(columns, dim=1)
