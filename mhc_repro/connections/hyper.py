"""One sub-layer's connection to n residual streams: read, branch, mix and write.

    h = H_pre X        y = F(h)        X' = H_res X + H_post^T y          (mHC, arXiv 2512.24880, Eq. 3)

HC, mHC and their successors are this one module; the functions that tell them apart are in `maps`.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig, ModelConfig
from mhc_repro.connections.base import NOTHING, Carry, Connection, Cost, Maps, Nature, Passed
from mhc_repro.connections.exponent import rescaled, to_read, to_write
from mhc_repro.connections.maps import Form, make_maps
from mhc_repro.connections.mixing import Identity, make_mixing
from mhc_repro.connections.mixing.base import tokens_first, tokens_last
from mhc_repro.connections.symmetry import exchangeable
from mhc_repro.connections.wide import wide
from mhc_repro.errors import UserError
from mhc_repro.words import assignment


def read_stage(
    form: Form,
    streams: Tensor,
    exponent: Tensor | None,
    ahead: Tensor | None,
    phi: Tensor | None,
    alpha: Tensor | None,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Do all that precedes the branch: make h = H_pre X (N, C), H_pre (N, n), H_post (N, n) and H_res (N, n, n).

    `exponent` (N,): e, where the state is 2^e X. `ahead` (N, n): the H_pre that h is made with, where the
    sub-layer before made it; the H_pre made here is then the next one's.
    """
    streams = to_read(streams, exponent)
    read, write, mix = make_maps(form, streams, phi, alpha, bias)
    used = read.T if ahead is None else ahead
    h = (used[..., None] * streams).sum(1)
    return h, read.T, write.T.contiguous(), tokens_first(mix).contiguous()


def write_stage(
    mix: Tensor | None, write: Tensor, streams: Tensor, output: Tensor, exponent: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """X' = H_res X + H_post^T y: (N, n, n) or None for I, (N, n), (N, n, C), (N, C) -> (N, n, C).

    Its maps are stored tokens first. Tokens last, the n^2 numbers of a token lie a power of two apart and
    push each other out of a CPU's cache.
    """
    mixed = streams if mix is None else (mix[..., None] * streams[:, None]).sum(2)
    return rescaled(mixed + to_write(write, exponent)[..., None] * output[:, None], exponent)


def stages(form: Form, compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what precedes and what follows the branch, compiled or as written."""
    return compiled_stages(form) if compiled else (partial(read_stage, form), write_stage)


@lru_cache
def compiled_stages(form: Form) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Compile both once.

    The code is shared by all sub-layers of all arms of one form and one shape, so a cold start compiles two small
    graphs, not a model.
    """
    return (
        torch.compile(partial(read_stage, form), dynamic=False, fullgraph=True),
        torch.compile(write_stage, dynamic=False, fullgraph=True),
    )


class Coefficients(nn.Module):
    """The parameters behind one map: static part b, input-dependent part phi, its scalar gate alpha."""

    phi: nn.Parameter | None
    alpha: Tensor | None

    def __init__(
        self, rows: int, features: int, bias: Tensor, alpha: float, learns_alpha: bool = True
    ) -> None:
        super().__init__()
        # No features: a static map, which has its b alone.
        self.phi = nn.Parameter(torch.zeros(rows, features)) if features else None
        gate = torch.tensor(alpha) if features else None
        if gate is not None and learns_alpha:
            self.alpha = nn.Parameter(gate)
        else:
            self.register_buffer("alpha", gate)
        self.bias = nn.Parameter(bias.float())


def make_form(config: ConnectionConfig, layer: int = 0) -> Form:
    """Say how `config` makes the maps of sub-layer `layer`; UserError where its settings do not fit together."""
    mixing = make_mixing(config.mixing, config.n).at(layer)  # of a frozen one too: it is part of the run's id
    if "mix" in config.freeze:
        mixing = Identity(config.n)
    if config.coefficients.startswith("stream") and mixing.size not in (0, config.n**2):
        raise UserError(
            f"connection.coefficients={config.coefficients} makes the n x n numbers of a matrix and "
            f"connection.mixing.kind={config.mixing['kind']} takes {mixing.size}; "
            "use connection.coefficients=flat"
        )
    if config.share_alpha and not (mixing.size and mixing.learns_alpha) and "mix" not in config.freeze:
        why = "its gate is no parameter" if mixing.size else "takes no numbers, so H_res has no gate to share"
        raise UserError(
            f"connection.share_alpha=true: connection.mixing.kind={config.mixing['kind']}: {why}; "
            "use connection.share_alpha=false"
        )
    learns = ("read" not in config.freeze, "write" not in config.freeze)
    if not any(learns) and not mixing.size:
        raise UserError(
            f"{assignment('connection.freeze', config.freeze)}: with connection.mixing.kind="
            f"{config.mixing['kind']} that leaves nothing to learn; drop one of them"
        )
    return Form(config.coefficients, config.gate, mixing, *learns, config.eps)


def values_of_streams(n: int, dim: int, numbers: int) -> int:
    """Count what is read and written for n streams, with m numbers a token, beyond a residual's.

    Forward, from mHC Table 2 with post, res and merge fused: reads (3n+1)C + m, writes (n+1)C + m, where a residual
    reads 2C and writes C. Backward, counted alike: the write reads (2n+1)C + m (dX', X, y), writes (n+1)C + m; the
    read and the projection read (3n+1)C + m (dh, X twice, dX) and write nC; a residual adds two gradients, 2C read
    and C written. Static maps spare the projection's reading of X both ways.
    """
    c, m = dim, numbers
    forward = (3 * n + 1) * c + (n + 1) * c + 2 * m
    backward = (2 * n + 1) * c + (n + 1) * c + (3 * n + 1) * c + n * c + 3 * m
    return forward + backward - 2 * 3 * c - (0 if m else 2 * n * c)


class HyperConnection(Connection):
    """n residual streams around a branch; every arm with streams is a setting of this."""

    compilable = True

    @classmethod
    def check(cls, config: ConnectionConfig) -> None:
        """Raise UserError where its maps cannot be made as they are set."""
        make_form(config)

    @classmethod
    def nature(cls, config: ConnectionConfig) -> Nature:
        """Say what H_res is meant to be, and whether the streams can ever differ."""
        form = make_form(config)
        return Nature(form.mixing.doubly_stochastic, exchangeable(config, form))

    @classmethod
    def cost(cls, config: ConnectionConfig, model: ModelConfig) -> Cost:
        """Count what n streams add, where m numbers are projected: none where maps are static.

        The norm's squares 2nC and the projection (2 nC each number from vec(X), 2C each from one stream), H_pre X
        2nC, H_res X 2n^2 C (nothing where it is I), H_post^T y added to it 2nC; less the residual's C.
        """
        form, n, c = make_form(config), config.n, model.dim
        learned = n * (form.learns_read + form.learns_write) + form.mixing.size
        numbers = 0 if config.coefficients == "static" else learned
        norm = 2 * n * c if numbers else 0
        projection = 2 * numbers * (n * c if config.coefficients == "flat" else c)
        mix = 0 if isinstance(form.mixing, Identity) else 2 * n * n * c
        return Cost(norm + projection + 2 * n * c + mix + 2 * n * c - c, values_of_streams(n, c, numbers))

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__(config, layer, dim)
        n = config.n
        self.n = n
        with torch.device("cpu"):  # constants and searches, of which a meta device keeps no number
            self.form = make_form(config, layer)
            mix = self.form.mixing.initial()
        self.single_pass, self.first = config.single_pass, layer == 0
        flat = config.coefficients == "flat"
        features = {"flat": n * dim, "static": 0}.get(config.coefficients, dim)

        def learned(bias: Tensor, learns_alpha: bool = True) -> Coefficients | None:
            rows = len(bias) if flat else len(bias) // n
            return Coefficients(rows, features, bias, config.alpha, learns_alpha) if len(bias) else None

        def on_streams(learns: bool, start: list[float], layer: int) -> Tensor:
            home = torch.arange(n) == layer % n
            return torch.where(home, start[1], start[0]) if learns else torch.zeros(0)

        reader = layer + self.single_pass  # the sub-layer whose read is made here
        self.read = learned(on_streams(self.form.learns_read, config.read_start, reader))
        self.write = learned(on_streams(self.form.learns_write, config.write_start, layer))
        self.write_end = config.write_end
        self.write_scale = 1.0
        self.mix = learned(mix.to(torch.get_default_device()), self.form.mixing.learns_alpha)
        if config.share_alpha and self.read and self.mix:
            self.mix.alpha = self.read.alpha
        self.keeps_streams = isinstance(self.form.mixing, Identity)
        self.has_exponent = config.exponent

    def joined(self) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Join the parameters of the three maps: phi (rows, features), alpha (m,), bias (m,); static: b alone."""
        parts = [part for part in (self.read, self.write, self.mix) if part is not None]
        bias = torch.cat([part.bias for part in parts])
        phi: list[Tensor] = [part.phi for part in parts if part.phi is not None]
        alpha = [part.alpha.expand_as(part.bias) for part in parts if part.alpha is not None]
        return (torch.cat(phi), torch.cat(alpha), bias) if phi else (None, None, bias)

    def gate_slope(self, maps: Maps) -> Tensor:
        """Return how far the gates are from saturation: 1 in the middle of their range, 0 at its ends.

        The slope over its largest value, averaged over tokens, of the stream that has most of it; the less
        of H_pre's and H_post's. Maps without a bound are never saturated, nor is one that learns nothing.
        """
        slopes = [maps.read.new_ones(())]
        if self.form.gate != "tanh":
            write = maps.write / 2 if self.form.gate == "sigmoid" else maps.write
            reads = self.form.learns_read and not (self.single_pass and self.first)
            read = maps.read - self.form.eps if self.form.gate == "sigmoid" else maps.read
            learned = ((read, reads), (write / self.write_scale, self.form.learns_write))
            slopes += [(4 * gate * (1 - gate)).mean(1).amax() for gate, learns in learned if learns]
        return torch.stack(slopes).amin()

    def at(self, progress: float) -> None:
        """Let H_post go from what its gate makes to `write_end` times that, linearly in `progress`."""
        self.write_scale = 1 + progress * (self.write_end - 1)

    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Carry streams (B, T, n, C) past one sub-layer; streams and maps stay float32 or wider under autocast."""
        shape, kind = streams.shape, streams.device.type
        streams = wide(streams).flatten(0, 1)
        exponent, ahead = self._handed(streams, carry)
        before, after = stages(self.form, self.compiled and self.training and torch.is_grad_enabled())
        with torch.autocast(kind, enabled=False):
            # Of a model whose parameters are all narrow, bfloat16 say, the maps are made wide all the same.
            numbers = (part if part is None else part.to(streams.dtype) for part in self.joined())
            h, read, write, mix = before(streams, exponent, ahead, *numbers)
            if self.write_end != 1:
                write = write * self.write_scale
        used, following = (read, None) if ahead is None else (ahead, read.T)
        # H_post and H_res are used as they are recorded, so that their gradients can be looked at.
        maps = Maps(used.T, write.T, tokens_last(mix))
        output = branch(h.unflatten(0, shape[:2])).flatten(0, 1)
        with torch.autocast(kind, enabled=False):
            mixes = None if self.keeps_streams else tokens_first(maps.mix)
            streams, exponent = after(mixes, maps.write.T, streams, output.to(streams.dtype), exponent)
        return Passed(streams.view(shape), maps, Carry(exponent, following))

    def _handed(self, streams: Tensor, carry: Carry) -> tuple[Tensor | None, Tensor | None]:
        """Return exponents (N,) and H_pre (N, n), where this arm is handed them or begins with them."""
        exponent, ahead = carry
        if self.has_exponent and exponent is None:
            exponent = streams.new_zeros(len(streams), dtype=torch.int32)
        if self.single_pass and ahead is None:
            first = torch.eye(self.n, dtype=streams.dtype, device=streams.device)[:, :1]
            ahead = first.expand(-1, len(streams))
        return exponent, None if ahead is None else ahead.T.contiguous()
