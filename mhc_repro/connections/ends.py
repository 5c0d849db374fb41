"""How the streams are made from the embedding, and joined before the final norm: once each."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.base import NOTHING, Carry
from mhc_repro.connections.exponent import to_read
from mhc_repro.connections.maps import RMS_EPS, flat_features
from mhc_repro.connections.outputs import Weights, make_reads
from mhc_repro.connections.wide import wide
from mhc_repro.errors import UserError

LSS_SCALE = 0.6


class Copies(nn.Module):
    """Copies the embedding into n streams, once, before the trunk."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def draw(self, generator: torch.Generator) -> None:
        """Draw what starts at random: of copies nothing."""

    def start(self) -> Tensor:
        """Return how much of the embedding each stream starts with, (n, 1)."""
        return torch.ones(self.n, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Make the streams: (B, T, C) -> (B, T, n, C)."""
        return x.unsqueeze(2).expand(-1, -1, self.n, -1).contiguous()


class ScaledCopies(Copies):
    """LSS: stream s is x * g_s, learned, from 0.6 plus Xavier noise (arXiv 2606.03483): no two start alike."""

    def __init__(self, n: int, dim: int) -> None:
        super().__init__(n)
        self.scale = nn.Parameter(torch.full((n, dim), LSS_SCALE))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Add the noise, uniform of variance 2 / (n + C)."""
        nn.init.xavier_uniform_(self.scale, generator=generator).add_(LSS_SCALE)

    def start(self) -> Tensor:
        """Return the mean over features of how much of the embedding each stream starts with, (n, 1)."""
        return self.scale.mean(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the copies: (B, T, C) -> (B, T, n, C)."""
        return x.unsqueeze(2) * self.scale


def make_expansion(config: ConnectionConfig, dim: int) -> Copies:
    """Make what makes the streams, as `connection.expand` says."""
    return ScaledCopies(config.n, dim) if config.expand == "lss" else Copies(config.n)


class Reduction(nn.Module, ABC):
    """A weighted sum of the last streams."""

    def forward(self, streams: Tensor, carry: Carry = NOTHING) -> Tensor:
        """Join the streams: (B, T, n, C) -> (B, T, C); `carry` is what the last sub-layer handed on."""
        return self.join(to_read(wide(streams), carry.exponent), carry)

    def join(self, streams: Tensor, carry: Carry) -> Tensor:
        """Join them by their weights."""
        with torch.autocast(streams.device.type, enabled=False):
            flat = streams.flatten(0, 1)
            return (self.weights(flat, carry).T[..., None] * flat).sum(1).view(*streams.shape[:2], -1)

    def draw(self, generator: torch.Generator) -> None:
        """Draw what starts at random: of most arms nothing."""

    @abstractmethod
    def weights(self, flat: Tensor, carry: Carry = NOTHING) -> Tensor:
        """Return how much of each stream is read: (N, n, C) -> (n, N), or (n, 1) where all tokens agree.

        The streams have to be float32 or wider, and autocast off.
        """


class Plain(Reduction):
    """sum | mean | newest (of a history, whose states come newest first)."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def join(self, streams: Tensor, carry: Carry) -> Tensor:
        if self.how == "newest":
            return streams[:, :, 0]
        return streams.sum(2) if self.how == "sum" else streams.mean(2)

    def weights(self, flat: Tensor, carry: Carry = NOTHING) -> Tensor:
        n = flat.shape[1]
        if self.how == "newest":
            return torch.eye(n, dtype=flat.dtype, device=flat.device)[:, :1]
        return flat.new_full((n, 1), 1 if self.how == "sum" else 1 / n)


class Head(Reduction):
    """A learned read of the last streams, sum_i (sigmoid(alpha (x~ phi)_i + b_i) + eps) x_i (DeepSeek's code).

    Starts at half the sum, whose factor the final norm removes.
    """

    def __init__(self, n: int, dim: int, alpha: float, eps: float = 0.0) -> None:
        super().__init__()
        self.eps = eps
        self.phi = nn.Parameter(torch.zeros(n, n * dim))
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.bias = nn.Parameter(torch.zeros(n))

    def weights(self, flat: Tensor, carry: Carry = NOTHING) -> Tensor:
        features = flat_features(flat, self.phi, self.eps or RMS_EPS)
        return (self.alpha * features + self.bias[:, None]).sigmoid() + self.eps


class Handed(Reduction):
    """The read that the last sub-layer made, as if for one more (single-pass mHC)."""

    def weights(self, flat: Tensor, carry: Carry = NOTHING) -> Tensor:
        if carry.read is None:
            raise UserError(
                "the last sub-layer hands on a read: give reduce what it returned, (streams, carry)"
            )
        return carry.read


class Weighed(Reduction):
    """One more read of all outputs (connections/outputs.py)."""

    def __init__(self, weigh: Weights) -> None:
        super().__init__()
        self.weigh = weigh

    def draw(self, generator: torch.Generator) -> None:
        self.weigh.draw(generator)

    def weights(self, flat: Tensor, carry: Carry = NOTHING) -> Tensor:
        made: Tensor = self.weigh(flat)
        return made[0]


def make_reduction(config: ConnectionConfig, dim: int, layers: int) -> Reduction:
    """Make what joins the streams behind `layers` sub-layers, as `connection.reduce` says."""
    if config.kind == "outputs":
        return Weighed(make_reads(config).weights(dim, layers, ways=1))
    if config.single_pass:
        return Handed()
    if config.reduce == "head":
        return Head(config.n, dim, config.alpha, config.eps)
    return Plain("newest" if config.kind == "history" else config.reduce)
