"""Depth history instead of streams: x is continued from a convex mean of the last K states (PyPI mhc 0.5.5).

    x_(l+1) = F_l(x_l) + sum_k a_(l,k) x_(l-k),   k = 0..K-1, as far back as there are states

One stream of width C, no H_pre or H_post, nothing depends on the input. The K states are carried as
streams, newest first, so that the transition is a companion matrix, first row a, then a shift, and its
gains are measured like any other's: rows sum to 1, columns are free (up to K).

The package detaches the history, x_l among it, unless told otherwise: its forward has a skip and its
backward has none, so its backward composite is 0. Its documented simplex projection is a softmax in
its code; here both can be had.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig, ModelConfig
from mhc_repro.connections.base import NOTHING, Carry, Connection, Cost, Maps, Passed
from mhc_repro.connections.mixing import make_kind
from mhc_repro.connections.mixing.base import must
from mhc_repro.connections.wide import wide


@dataclass(frozen=True)
class Softmax:
    """a = softmax(theta / temperature); with `clamp`, (1 - clamp) a + clamp on the newest state."""

    n: int
    start: tuple[float, float] = (-10.0, 0.0)  # theta of the older states, of the newest
    temperature: float = 1.0
    clamp: float = 0.0  # the package's identity mode: 0.1
    gumbel: bool = False  # in training, softmax((theta + Gumbel noise) / temperature)
    detach: bool = True  # no gradient through the history

    def __post_init__(self) -> None:
        must(self, "temperature", self.temperature > 0, "more than 0", example=1)
        must(self, "clamp", 0 <= self.clamp <= 1, "from 0 to 1", example=0.1)

    def weights(self, theta: Tensor, noise: Tensor | None) -> Tensor:
        """Return a (k,), newest first, of theta (k,)."""
        weights = self.onto_simplex((theta if noise is None else theta + noise) / self.temperature)
        newest = torch.zeros_like(weights)
        newest[0] = 1
        return (1 - self.clamp) * weights + self.clamp * newest

    def onto_simplex(self, scores: Tensor) -> Tensor:
        """Return weights (k,) that sum to 1 of scores (k,)."""
        return torch.softmax(scores, 0)


@dataclass(frozen=True)
class Simplex(Softmax):
    """a = the point of the simplex nearest to theta / temperature, by sorting: zeros are exact.

    Where the largest score leads the next by 1 it is a vertex, whose gradient is zero: start with less.
    """

    start: tuple[float, float] = (0.05, 0.85)

    def onto_simplex(self, scores: Tensor) -> Tensor:
        """Return the point of the simplex nearest to scores (k,)."""
        return project_to_simplex(scores)


HISTORIES: dict[str, type] = {"softmax": Softmax, "simplex": Simplex}


def project_to_simplex(point: Tensor) -> Tensor:
    """Return the nearest point of the simplex in Euclidean distance: (k,) -> (k,); NaN where it is not finite."""
    largest = point.detach().amax()
    # Beside such numbers 1 is lost, and it is their differences alone that count.
    point = point - largest.where(largest.abs() > 2**20, torch.zeros_like(largest))
    ordered = point.sort(descending=True).values
    count = torch.arange(1, len(point) + 1, dtype=point.dtype, device=point.device)
    # No cumsum, of which a GPU has no deterministic one; on a CPU that one too adds in float64, absent from Metal.
    wide = ordered if point.device.type == "mps" else ordered.double()
    sums = (count[:, None] >= count).to(wide) @ wide
    excess = (sums.to(point) - 1) / count
    # Stays on the device: a GPU need not be waited for. It is 0 where there is a NaN, which then is all there is.
    support = (ordered > excess).sum(0, keepdim=True).clamp_min(1)
    return (point - excess.gather(0, support - 1)).clamp_min(0.0)


def make_history(config: ConnectionConfig) -> Softmax:
    """Make the weights that `connection.mixing` names; UserError for what it does not know."""
    made: Softmax = make_kind(config.mixing, HISTORIES, config.n)
    return made


def values_of_states(n: int, dim: int) -> int:
    """Count what is read and written for a mean of n states, beyond a residual's 2C read and C written both ways.

    It reads n states and y and writes one; backward it reads them, n gradients and one more, and writes n.
    """
    return (n + 2) * dim + (3 * n + 1) * dim - 2 * 3 * dim


class HistoryConnection(Connection):
    """K states of one stream around a branch; sub-layer `layer` (from 0) knows layer + 1 states at most."""

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__(config, layer, dim)
        self.n, self.layer = config.n, layer
        self.history = make_history(config)
        self.detached = self.history.detach
        older, newest = self.history.start
        known = min(layer + 1, self.n)
        self.theta = nn.Parameter(torch.tensor([newest] + [older] * (known - 1), dtype=torch.float32))

    @classmethod
    def check(cls, config: ConnectionConfig) -> None:
        """Raise UserError where the weights are of no kind there is."""
        make_history(config)

    @classmethod
    def cost(cls, config: ConnectionConfig, model: ModelConfig) -> Cost:
        """Count the mean of n states, 2nC less the residual's C."""
        return Cost(2 * config.n * model.dim - model.dim, values_of_states(config.n, model.dim))

    def companion(self) -> Tensor:
        """Return H_res (n, n): the weights, then the shift of the states."""
        weights = self.history.weights(wide(self.theta), self._noise())
        first = torch.cat([weights, weights.new_zeros(self.n - len(weights))])
        shift = torch.eye(self.n, dtype=weights.dtype, device=weights.device)[:-1]
        return torch.cat([first[None], shift])

    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Carry the states (B, T, n, C), newest first, past one sub-layer, which reads and makes the newest."""
        streams = wide(streams)
        matrix = self.companion()
        states = streams.detach() if self.detached else streams
        newest = branch(streams[:, :, 0]).to(streams.dtype) + (matrix[0, :, None] * states).sum(2)
        moved = torch.cat([newest[:, :, None], streams[:, :, :-1]], dim=2)
        tokens = streams.shape[0] * streams.shape[1]
        newest_alone = torch.eye(self.n, dtype=matrix.dtype, device=matrix.device)[0, :, None]
        ends = newest_alone.expand(-1, tokens)
        return Passed(moved, Maps(ends, ends, matrix[..., None].expand(-1, -1, tokens)))

    def _noise(self) -> Tensor | None:
        if not (self.history.gumbel and self.training):
            return None
        generator = None
        if self.seeded_each_step:  # dropout's masks stay those of other arms
            generator = torch.Generator().manual_seed((torch.initial_seed() + self.layer + 1) % 2**63)
        uniform = torch.rand(self.theta.shape, generator=generator, dtype=torch.float64)
        return -(-uniform.clamp_min(1e-12).log()).log().to(self.theta)
