"""All outputs so far instead of streams: each is kept, and read by weights of its own.

    h_l = sum_(i < l) a_i x_i        x_0 the embedding, x_l what sub-layer l adds

The state grows by a stream a sub-layer, which H_res leaves as they are; so H_pre is the weights, and for attention
residuals it is a row of the depth kernel (measurement/kernel.py). Every gain of H_res is then 1 by construction. In
MUDDFormer x_l = y_l + sum_i r_i x_i has weights of its own, the new row of H_res.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhc_repro.config import ConnectionConfig, ModelConfig
from mhc_repro.connections.base import NOTHING, Carry, Connection, Cost, Maps, Passed
from mhc_repro.connections.history import values_of_states
from mhc_repro.connections.maps import RMS_EPS
from mhc_repro.connections.mixing import make_kind
from mhc_repro.connections.wide import product, wide


class Weights(nn.Module, ABC):
    """Makes `ways` lots of weights of the n outputs: (N, n, C) -> (ways, n, N)."""

    def draw(self, generator: torch.Generator) -> None:
        """Draw what starts at random."""

    @abstractmethod
    def forward(self, outputs: Tensor) -> Tensor:
        """Weigh outputs (N, n, C), newest last: (ways, n, N)."""


class AttentionWeights(Weights):
    """softmax_i(w . RMSNorm(x_i)), of one learned query w (C,) from 0, where the weights are a mean."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(dim))

    def forward(self, outputs: Tensor) -> Tensor:
        scores = (outputs * self.query).sum(2) * rms(outputs).reciprocal()
        return scores.softmax(1).T[None]


class DenseWeights(Weights):
    """GELU(RMSNorm(x_newest) W_1) W_2 + a, a way's own (MUDDFormer); a starts at 1 for the newest and W_2 at 0.

    `normed`, its PrePostDANorm: what is summed is each over its rms, the sum over its own, times a learned scale,
    and the newest is added whole. There a starts the same and the scale at 1e-3.
    """

    SCALE = 1e-3

    def __init__(self, n: int, dim: int, ways: int, normed: bool) -> None:
        super().__init__()
        self.ways, self.n = ways, n
        self.hidden_phi = nn.Parameter(torch.zeros(ways * n, dim))
        self.phi = nn.Parameter(torch.zeros(ways * n, ways * n))
        newest = torch.eye(n)[-1].repeat(ways, 1)
        self.bias = nn.Parameter(newest)
        self.scale = nn.Parameter(torch.full((ways, 1, 1), self.SCALE)) if normed else None

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw W_1 from N(0, 1/C), which W_2 = 0 hides at first."""
        self.hidden_phi.normal_(0, 1 / math.sqrt(self.hidden_phi.shape[1]), generator=generator)

    def forward(self, outputs: Tensor) -> Tensor:
        newest = outputs[:, -1]
        hidden = functional.gelu(product(newest / rms(newest)[:, None], self.hidden_phi))
        made = product(hidden, self.phi).T.unflatten(0, (self.ways, self.n)) + self.bias[..., None]
        if self.scale is None:
            return made
        made = made / rms(outputs).T
        summed = torch.einsum("wnt,tnc->wtc", made, outputs)
        whole = torch.eye(self.n, dtype=made.dtype, device=made.device)[-1, :, None]
        return whole + self.scale * made / rms(summed)[:, None]


def rms(x: Tensor) -> Tensor:
    """Return the root mean square over the features: (..., C) -> (...)."""
    return (x.square().mean(-1) + RMS_EPS).sqrt()


@dataclass(frozen=True)
class Attention:
    """Attention residuals (arXiv 2603.15031): one read a sub-layer, h = sum_i softmax_i(w_l . RMSNorm(x_i)) x_i."""

    n: int  # of streams at the start
    adds: ClassVar[bool] = False  # the new output is the branch's alone

    def weights(self, dim: int, layer: int, ways: int = 1) -> Weights:
        """Make the weights of the layer + 1 outputs that are there before sub-layer `layer`, or behind the last."""
        return AttentionWeights(dim)


@dataclass(frozen=True)
class Dense:
    """MUDDFormer (arXiv 2502.12170): reads of their own for queries, keys, values and what y is added to."""

    n: int
    normed: bool = False
    adds: ClassVar[bool] = True

    def weights(self, dim: int, layer: int, ways: int | None = None) -> Weights:
        """Make their weights, of `ways` reads, or of an attention's three, an MLP's one, and the residual's."""
        return DenseWeights(layer + 1, dim, ways or (3 if layer % 2 == 0 else 1) + 1, self.normed)


Reads = Attention | Dense
READS: dict[str, type] = {"attention": Attention, "dense": Dense}


def make_reads(config: ConnectionConfig) -> Reads:
    """Make what `connection.mixing` names; UserError for what it does not know."""
    made: Reads = make_kind(config.mixing, READS, config.n)
    return made


class OutputsConnection(Connection):
    """All layer + 1 outputs before sub-layer `layer` (from 0), oldest first; it adds one."""

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__(config, layer, dim)
        self.n = layer + 1
        reads = make_reads(config)
        self.adds, self.weigh = reads.adds, reads.weights(dim, layer)

    @classmethod
    def check(cls, config: ConnectionConfig) -> None:
        """Raise UserError where the reads are of no kind there is."""
        make_reads(config)

    @classmethod
    def cost(cls, config: ConnectionConfig, model: ModelConfig) -> Cost:
        """Count what a sub-layer finds on average, of outputs 1, 2, ... 2 x blocks: some `blocks` of them.

        Squares and scores, or the hidden numbers, 4nC a read at most, and each read 2nC; of attention one read, of
        dense connections three on average: four of attention, two of an MLP.
        """
        found, c = model.blocks, model.dim
        reads = 1 if config.mixing["kind"] == "attention" else 3
        return Cost(reads * 6 * found * c - c, values_of_states(found, c))

    def draw(self, generator: torch.Generator) -> None:
        self.weigh.draw(generator)

    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Read outputs (B, T, n, C) and add one: (B, T, n + 1, C); of an attention's, the values' is recorded."""
        shape = streams.shape
        flat = wide(streams).flatten(0, 1)
        with torch.autocast(streams.device.type, enabled=False):
            weights = self.weigh(flat)
            read = [(each.T[..., None] * flat).sum(1) for each in weights]
        base = read.pop() if self.adds else None
        output = branch(*(h.unflatten(0, shape[:2]) for h in read)).flatten(0, 1).to(flat.dtype)
        added = output if base is None else output + base
        grown = torch.cat([flat, added[:, None]], dim=1)
        return Passed(grown.unflatten(0, shape[:2]), self._maps(weights, len(read)))

    def _maps(self, weights: Tensor, reads: int) -> Maps:
        tokens = weights.shape[-1]
        mix = torch.eye(self.n, dtype=weights.dtype, device=weights.device)[..., None].expand(-1, -1, tokens)
        if self.adds:
            mix = torch.cat([mix, weights[-1:]])
        newest = torch.eye(self.n + 1, dtype=weights.dtype, device=weights.device)[-1, :, None]
        return Maps(weights[reads - 1], newest.expand(-1, tokens), mix)
