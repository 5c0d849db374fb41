"""H_res filled in entry by entry, each within what rows and columns leave free: the whole polytope, exactly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mhc_repro.connections.mixing.base import Mixing, a6_off_diagonal, off_and_diagonal


@dataclass(frozen=True)
class Transport(Mixing):
    """H_res by transportation-polytope fill (TBP-mHC, arXiv 2605.21724): (n - 1)^2 numbers, any n.

    Entry (i, j) is L + (U - L) sigmoid(t_ij), row by row, [L, U] being what is still feasible; the last
    row and column are what remains. Every doubly stochastic matrix can be reached, but which numbers
    reach it depends on the order of the streams.
    """

    doubly_stochastic = True
    start: float | None = None  # of every t; null: A.6's own matrix

    @property
    def size(self) -> int:
        return (self.n - 1) ** 2

    def initial(self) -> Tensor:
        if self.start is not None:
            return torch.full((self.size,), self.start, dtype=torch.float64)
        off = a6_off_diagonal(self.n)
        target = off_and_diagonal(self.n, (off, 1 - (self.n - 1) * off)).view(self.n, self.n)
        numbers = []
        for i in range(self.n - 1):
            columns = 1 - target[:i].sum(0)
            for j in range(self.n - 1):
                row = 1 - target[i, :j].sum()
                low, high = _feasible(row, columns[j], columns[j + 1 :].sum())
                numbers.append(torch.logit((target[i, j] - low) / (high - low)))
        return torch.stack(numbers) if numbers else torch.zeros(0, dtype=torch.float64)

    def matrix(self, numbers: Tensor) -> Tensor:
        one = numbers.new_ones(numbers.shape[-1])
        columns = [one] * self.n  # what each column still has to give
        rows = []
        for i in range(self.n - 1):
            row, entries = one, []  # what this row still needs
            for j in range(self.n - 1):
                later = torch.stack(columns[j + 1 :]).sum(0)
                low, high = _feasible(row, columns[j], later)
                entry = low + (high - low) * numbers[i * (self.n - 1) + j].sigmoid()
                row, columns[j] = row - entry, columns[j] - entry
                entries.append(entry)
            columns[-1] = columns[-1] - row
            rows.append(torch.stack([*entries, row]))
        return torch.stack([*rows, torch.stack(columns)])


def _feasible(row: Tensor, column: Tensor, later_columns: Tensor) -> tuple[Tensor, Tensor]:
    return (row - later_columns).clamp_min(0.0), torch.minimum(row, column)
