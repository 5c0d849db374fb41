"""One sub-layer's connection to n residual streams: read, branch, mix and write.

    h = H_pre X        y = F(h)        X' = H_res X + H_post^T y          (mHC, arXiv 2512.24880, Eq. 3)

HC, mHC and their successors are this one module. They differ in where the numbers per token come
from (`coefficients`), how those become H_pre and H_post (`gate`), and H_res (`mixing`).

Letters: N tokens, n streams, C features, m = 2n + mixing.size numbers per token. Maps are stored
tokens last, (n, N) and (n, n, N), so that sums over streams vectorise over tokens.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.mixing import Mixing, make_mixing

RMS_EPS = 1e-20  # mHC Table 5


class Maps(NamedTuple):
    """The maps of one sub-layer for N tokens: H_pre (n, N), H_post (n, N), H_res (n, n, N)."""

    read: Tensor
    write: Tensor
    mix: Tensor


class Form(NamedTuple):
    """What tells one arm's maps from another's; hashable, so that arms share compiled code."""

    coefficients: str
    gate: str
    mixing: Mixing


def flat_features(streams: Tensor, phi: Tensor) -> Tensor:
    """Project vec(X) after one RMSNorm over its nC features: (N, n, C), (m, nC) -> (m, N), mHC Eq. 7.

    The norm's factor is applied after the product, so the normalised state is never written.
    """
    flat = streams.flatten(1)
    mean_square = torch.linalg.vector_norm(flat, dim=1).square() / flat.shape[1]
    return functional.linear(flat, phi).T * (mean_square + RMS_EPS).rsqrt()


def stream_features(streams: Tensor, theta: Tensor) -> Tensor:
    """Project each stream after its own RMSNorm: (N, n, C), (k, C) -> (k n, N), mHC Eq. 5.

    Entry (k, j) is theta_k . x~_j, so column j of H_res depends on stream j.
    """
    mean_square = torch.linalg.vector_norm(streams, dim=2).square() / streams.shape[2]
    features = functional.linear(streams, theta) * (mean_square + RMS_EPS).rsqrt()[..., None]
    return features.permute(2, 1, 0).flatten(0, 1)


def make_maps(form: Form, streams: Tensor, phi: Tensor, alpha: Tensor, bias: Tensor) -> Maps:
    """Compute H_pre, H_post and H_res of every token (mHC Eq. 5 for `tanh`, Eq. 7-8 for `sigmoid`)."""
    n = streams.shape[1]
    project = flat_features if form.coefficients == "flat" else stream_features
    features = project(streams, phi)
    if form.gate == "tanh":
        features = features.tanh()
    numbers = alpha[:, None] * features + bias[:, None]
    read, write, mix = numbers.split([n, n, form.mixing.size])
    if form.gate == "sigmoid":
        read, write = read.sigmoid(), 2 * write.sigmoid()
    return Maps(read, write, form.mixing.matrix(mix.contiguous()))


def read_stage(
    form: Form, streams: Tensor, phi: Tensor, alpha: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Do all that precedes the branch: return h (N, C), H_post (n, N), H_res (n, n, N)."""
    maps = make_maps(form, streams, phi, alpha, bias)
    return read_streams(maps.read, streams), maps.write, maps.mix


def read_streams(read: Tensor, streams: Tensor) -> Tensor:
    """h = H_pre X: (n, N), (N, n, C) -> (N, C)."""
    return (read.T[..., None] * streams).sum(1)


def write_streams(mix: Tensor, write: Tensor, streams: Tensor, output: Tensor) -> Tensor:
    """X' = H_res X + H_post^T y: (n, n, N), (n, N), (N, n, C), (N, C) -> (N, n, C)."""
    mixed = (mix.permute(2, 0, 1)[..., None] * streams[:, None]).sum(2)
    return mixed + write.T[..., None] * output[:, None]


@lru_cache
def stages(form: Form, compiled: bool) -> tuple[Callable[..., Any], Callable[..., Tensor]]:
    """Return what precedes and what follows the branch, compiled or as written.

    Compiled code is shared by all sub-layers of all arms of one form and one shape, so a cold start
    compiles two small graphs, not a model.
    """
    read = partial(read_stage, form)
    if not compiled:
        return read, write_streams
    return (
        torch.compile(read, dynamic=False, fullgraph=True),
        torch.compile(write_streams, dynamic=False, fullgraph=True),
    )


class Coefficients(nn.Module):
    """The parameters behind one map: static part b, input-dependent part phi, its scalar gate alpha."""

    def __init__(self, rows: int, features: int, bias: Tensor, alpha: float) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.zeros(rows, features))
        self.alpha = nn.Parameter(torch.tensor(alpha))
        self.bias = nn.Parameter(bias.float())


class HyperConnection(nn.Module):
    """n residual streams around a branch; every arm with streams is a setting of this."""

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__()
        n = config.n
        mixing = make_mixing(config.mixing, n)
        self.n = n
        self.form = Form(config.coefficients, config.gate, mixing)
        home = torch.arange(n) == layer % n  # the home stream, e_{l mod n}
        flat = config.coefficients == "flat"
        features = n * dim if flat else dim

        def coefficients(size: int, bias: Tensor) -> Coefficients:
            return Coefficients(size if flat else size // n, features, bias, config.alpha)

        self.read = coefficients(n, torch.where(home, config.read_start[1], config.read_start[0]))
        self.write = coefficients(n, torch.where(home, config.write_start[1], config.write_start[0]))
        self.mix = coefficients(mixing.size, mixing.initial()) if mixing.size else None
        self.compiled = False  # set by runtime; only training steps, whose shape is fixed, use it

    def coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Join the parameters of the three maps: phi (rows, features), alpha (m,), bias (m,)."""
        parts = [part for part in (self.read, self.write, self.mix) if part is not None]
        alpha = torch.cat([part.alpha.expand_as(part.bias) for part in parts])
        return torch.cat([part.phi for part in parts]), alpha, torch.cat([part.bias for part in parts])

    def maps(self, streams: Tensor) -> Maps:
        """Compute the maps of every token of streams (N, n, C)."""
        return make_maps(self.form, streams, *self.coefficients())

    def forward(self, streams: Tensor, branch: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Carry streams (B, T, n, C) past one sub-layer; also return H_res (n, n, B T).

        Streams and maps stay in float32 or wider under any autocast.
        """
        shape, kind = streams.shape, streams.device.type
        wide = torch.promote_types(streams.dtype, torch.float32)
        streams = streams.flatten(0, 1).to(wide)
        read_stage, write_streams = stages(self.form, self.compiled and self.training)
        with torch.autocast(kind, enabled=False):
            h, write, mix = read_stage(streams, *self.coefficients())
        output = branch(h.unflatten(0, shape[:2])).flatten(0, 1)
        with torch.autocast(kind, enabled=False):
            streams = write_streams(mix, write, streams, output.to(wide))
        return streams.view(shape), mix
