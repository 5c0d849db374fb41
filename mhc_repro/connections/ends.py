"""How the streams are made from the embedding, and joined before the final norm: once each."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.maps import flat_features

LSS_SCALE = 0.6


def expand(x: Tensor, n: int) -> Tensor:
    """Copy the embedding into n streams: (B, T, C) -> (B, T, n, C), once, before the trunk."""
    return x.unsqueeze(2).expand(-1, -1, n, -1).contiguous()


def reduce(streams: Tensor, how: str) -> Tensor:
    """Join the streams before the final norm: (B, T, n, C) -> (B, T, C); sum | mean | newest (of a history)."""
    if how == "newest":
        return streams[:, :, 0]
    return streams.sum(2) if how == "sum" else streams.mean(2)


class ScaledCopies(nn.Module):
    """LSS: stream s is x * g_s, learned, from 0.6 plus Xavier noise (arXiv 2606.03483): no two start alike."""

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n, dim), LSS_SCALE))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Add the noise, uniform of variance 2 / (n + C)."""
        nn.init.xavier_uniform_(self.scale, generator=generator).add_(LSS_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the copies: (B, T, C) -> (B, T, n, C)."""
        return x.unsqueeze(2) * self.scale


class Head(nn.Module):
    """A learned read of the last streams, sum_i sigmoid(alpha (x~ phi)_i + b_i) x_i (DeepSeek's TileKernels).

    Starts at half the sum, whose factor the final norm removes.
    """

    def __init__(self, n: int, dim: int, alpha: float) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.zeros(n, n * dim))
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.bias = nn.Parameter(torch.zeros(n))

    def weights(self, flat: Tensor) -> Tensor:
        """Return how much of each stream is read: (N, n, C) -> (n, N)."""
        return (self.alpha * flat_features(flat, self.phi) + self.bias[:, None]).sigmoid()

    def forward(self, streams: Tensor) -> Tensor:
        """Join the streams: (B, T, n, C) -> (B, T, C)."""
        shape = streams.shape
        wide = torch.promote_types(streams.dtype, torch.float32)
        with torch.autocast(streams.device.type, enabled=False):
            flat = streams.flatten(0, 1).to(wide)
            return (self.weights(flat).T[..., None] * flat).sum(1).view(shape[0], shape[1], shape[3])


def start_weights(expansion: ScaledCopies | None, n: int) -> Tensor:
    """Return how much of the embedding each stream starts with, (n, 1); LSS: the mean over features."""
    return torch.ones(n, 1) if expansion is None else expansion.scale.mean(1, keepdim=True)


def readout_weights(reduction: Callable[[Tensor], Tensor], streams: Tensor) -> Tensor:
    """Return how much of each last stream (B, T, n, C) is read: (n, B T), or (n, 1) where all tokens agree."""
    if isinstance(reduction, Head):
        return reduction.weights(streams.flatten(0, 1))
    unit = torch.eye(streams.shape[2], dtype=streams.dtype, device=streams.device)
    return reduction(unit[None, None]).flatten()[:, None]


def make_expansion(config: ConnectionConfig, dim: int) -> ScaledCopies | None:
    """Make the learned part of `connection.expand`, None for copies."""
    return ScaledCopies(config.n, dim) if config.expand == "lss" else None


def make_reduction(config: ConnectionConfig, dim: int) -> Callable[[Tensor], Tensor]:
    """Make what joins the streams, (B, T, n, C) -> (B, T, C), as `connection.reduce` says."""
    if config.reduce == "head":
        return Head(config.n, dim, config.alpha)
    return partial(reduce, how="newest" if config.kind == "history" else config.reduce)
