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
from mhc_repro.errors import UserError

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
    learns_read: bool = True  # otherwise H_pre = 1/n
    learns_write: bool = True  # otherwise H_post = 1


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


def layer_norm_features(streams: Tensor, theta: Tensor) -> Tensor:
    """Project each stream after its own LayerNorm without parameters, as 2409.19606 does, Eq. 10-13."""
    return stream_features(streams - streams.mean(2, keepdim=True), theta)


FEATURES = {"flat": flat_features, "stream": stream_features, "stream_layer_norm": layer_norm_features}


def make_numbers(
    form: Form, streams: Tensor, phi: Tensor | None, alpha: Tensor | None, bias: Tensor
) -> tuple[Tensor, ...]:
    """Compute what H_pre, H_post and H_res are made of, alpha (x~ phi) + b: three tensors (k, N or 1)."""
    n = streams.shape[1]
    numbers = bias[:, None]  # static: one token stands for all
    if phi is not None and alpha is not None:
        features = FEATURES[form.coefficients](streams, phi)
        if form.gate == "tanh":
            features = features.tanh()
        numbers = alpha[:, None] * features + numbers
    return numbers.split([n * form.learns_read, n * form.learns_write, form.mixing.size])


def make_maps(form: Form, streams: Tensor, phi: Tensor | None, alpha: Tensor | None, bias: Tensor) -> Maps:
    """Compute H_pre, H_post and H_res of every token (mHC Eq. 5 for `tanh`, Eq. 7-8 for `sigmoid`)."""
    tokens, n, _ = streams.shape
    read, write, mix = make_numbers(form, streams, phi, alpha, bias)
    read, write = gates(form.gate, read, write)
    if not form.learns_read:
        read = streams.new_full((n, 1), 1 / n)
    if not form.learns_write:
        write = streams.new_ones(n, 1)
    matrix = form.mixing.matrix(mix.contiguous())
    return Maps(read.expand(n, tokens), write.expand(n, tokens), matrix.expand(n, n, tokens))


def gates(gate: str, read: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """Turn numbers into H_pre and H_post; `tanh` has already bounded what depends on the input."""
    if gate == "sigmoid":
        return read.sigmoid(), 2 * write.sigmoid()
    if gate == "softmax":
        return read.softmax(0), write.softmax(0)
    return read, write


def read_stage(
    form: Form, streams: Tensor, phi: Tensor | None, alpha: Tensor | None, bias: Tensor
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

    phi: nn.Parameter | None
    alpha: nn.Parameter | None

    def __init__(self, rows: int, features: int, bias: Tensor, alpha: float) -> None:
        super().__init__()
        # No features: a static map, which has its b alone.
        self.phi = nn.Parameter(torch.zeros(rows, features)) if features else None
        self.alpha = nn.Parameter(torch.tensor(alpha)) if features else None
        self.bias = nn.Parameter(bias.float())


def make_form(config: ConnectionConfig) -> Form:
    """Say how `config` makes its maps; UserError where its settings do not fit together."""
    mixing = make_mixing({"kind": "identity"} if "mix" in config.freeze else config.mixing, config.n)
    if config.coefficients.startswith("stream") and mixing.size not in (0, config.n**2):
        raise UserError(
            f"connection.coefficients={config.coefficients} makes the n x n numbers of a matrix and "
            f"connection.mixing.kind={config.mixing['kind']} takes {mixing.size}; "
            "use connection.coefficients=flat"
        )
    learns = ("read" not in config.freeze, "write" not in config.freeze)
    if not any(learns) and not mixing.size:
        raise UserError("connection.freeze=[read,write,mix] leaves nothing to learn; drop one of them")
    return Form(config.coefficients, config.gate, mixing, *learns)


class HyperConnection(nn.Module):
    """n residual streams around a branch; every arm with streams is a setting of this."""

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__()
        n = config.n
        self.n = n
        self.form = make_form(config)
        home = torch.arange(n) == layer % n  # the home stream, e_{l mod n}
        flat = config.coefficients == "flat"
        features = {"flat": n * dim, "static": 0}.get(config.coefficients, dim)

        def coefficients(bias: Tensor) -> Coefficients | None:
            rows = len(bias) if flat else len(bias) // n
            return Coefficients(rows, features, bias, config.alpha) if len(bias) else None

        def on_streams(learns: bool, start: list[float]) -> Tensor:
            return torch.where(home, start[1], start[0]) if learns else torch.zeros(0)

        self.read = coefficients(on_streams(self.form.learns_read, config.read_start))
        self.write = coefficients(on_streams(self.form.learns_write, config.write_start))
        self.mix = coefficients(self.form.mixing.initial())
        if config.share_alpha and self.read and self.mix:
            self.mix.alpha = self.read.alpha
        self.compiled = False  # set by runtime; only training steps, whose shape is fixed, use it

    def coefficients(self) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Join the parameters of the three maps: phi (rows, features), alpha (m,), bias (m,); static: b alone."""
        parts = [part for part in (self.read, self.write, self.mix) if part is not None]
        bias = torch.cat([part.bias for part in parts])
        phi: list[Tensor] = [part.phi for part in parts if part.phi is not None]
        alpha = [part.alpha.expand_as(part.bias) for part in parts if part.alpha is not None]
        return (torch.cat(phi), torch.cat(alpha), bias) if phi else (None, None, bias)

    def maps(self, streams: Tensor) -> Maps:
        """Compute the maps of every token of streams (N, n, C)."""
        return make_maps(self.form, streams, *self.coefficients())

    def gate_slope(self, streams: Tensor) -> Tensor:
        """Return how far the gates are from saturation at streams (N, n, C): 1 in the middle, 0 at the ends.

        The slope over its largest value, averaged over tokens, of the stream that has most of it; the less
        of H_pre's and H_post's. Maps without a bound are never saturated.
        """
        read, write, _ = make_numbers(self.form, streams, *self.coefficients())
        slopes = [streams.new_ones(())]
        if self.form.gate != "tanh":
            read, write = gates(self.form.gate, read, write)
            if self.form.gate == "sigmoid":
                write = write / 2
            slopes += [(4 * s * (1 - s)).mean(1).amax() for s in (read, write) if len(s)]
        return torch.stack(slopes).amin()

    def forward(self, streams: Tensor, branch: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Carry streams (B, T, n, C) past one sub-layer; also return H_res (n, n, B T).

        Streams and maps stay in float32 or wider under any autocast.
        """
        shape, kind = streams.shape, streams.device.type
        wide = torch.promote_types(streams.dtype, torch.float32)
        streams = streams.flatten(0, 1).to(wide)
        compiled = self.compiled and self.training and torch.is_grad_enabled()
        read_stage, write_streams = stages(self.form, compiled)
        with torch.autocast(kind, enabled=False):
            h, write, mix = read_stage(streams, *self.coefficients())
        output = branch(h.unflatten(0, shape[:2])).flatten(0, 1)
        with torch.autocast(kind, enabled=False):
            streams = write_streams(mix, write, streams, output.to(wide))
        return streams.view(shape), mix
