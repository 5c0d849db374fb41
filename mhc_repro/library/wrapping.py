"""An arm around any branch, as a module of its own: streams (..., n, dim) in, streams (..., n, dim) out.

    expand, reduce = expand_and_reduce("mhc", dim=64)
    attention = hyper_connection(Attention(64), "mhc", dim=64, layer=0)
    x = reduce(attention(expand(x)))

Streams keep the dtype in which they come; maps are float32 or wider, under autocast too. An arm that hands on
more than streams (mhc_exponent, single_pass) returns a pair, (streams, carry), for the next sub-layer and `reduce`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro import connections
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import Carry
from mhc_repro.errors import UserError
from mhc_repro.library.settings import connection_config

State = Tensor | tuple[Tensor, Carry]  # streams, and what else is handed on


def check_kind(config: ConnectionConfig) -> None:
    """Raise UserError for an arm whose state grows, which only this package's own Transformer carries."""
    if config.kind == "outputs":
        raise UserError(
            f"arm={config.name}: it keeps the output of every sub-layer, which no module around one branch can; "
            "train it in this package's own model, or choose an arm with streams, such as mhc"
        )


def first_of(output: Any) -> Any:
    """Return what a module makes: its output, or the first of a tuple or list; a State is one output."""
    return output[0] if _holds(output) else output


def with_first(output: Any, first: Any) -> Any:
    """Return `output` with `first` for what the module made, in a container of the same type."""
    if not _holds(output):
        return first
    make = getattr(output, "_make", type(output))  # of a named tuple
    return make((first, *output[1:]))


def taken_apart(state: Any) -> tuple[Tensor, Carry]:
    """Return the streams and what else is handed on; UserError for what is no State."""
    if isinstance(state, Tensor):
        return state, Carry()
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], Carry):
        return state
    raise UserError(
        f"streams are {type(state).__name__}; a connection takes a tensor (..., n, dim): of one whose branch "
        "returns more than its output, hand on the first of what comes back"
    )


def _holds(output: Any) -> bool:
    return isinstance(output, tuple | list) and len(output) > 0 and not isinstance(output[-1], Carry)


class Wrapped(nn.Module):
    """A branch and the connection around it; whatever else the branch takes is passed on to it."""

    def __init__(self, config: ConnectionConfig, branch: Callable[..., Any], dim: int, layer: int) -> None:
        check_kind(config)
        super().__init__()
        self.dim, self.layer = dim, layer
        self.arm = config.name
        self.connection = connections.build(config, layer, dim)
        self.connection.draw(torch.default_generator)
        self.n = config.n
        self.branch = branch

    def extra_repr(self) -> str:
        return f"arm={self.arm}, n={self.n}, dim={self.dim}, layer={self.layer}"

    def at(self, progress: float) -> None:
        """Say how much of the training is done, 0 to 1, which no `state_dict` keeps; most arms ignore it."""
        self.connection.at(progress)

    def forward(self, state: State, *args: Any, **kwargs: Any) -> Any:
        """Carry the streams (..., n, dim) past the branch, (..., dim) -> (..., dim), with its other arguments.

        Of a branch that returns a tuple or a list the first is written, and the streams returned in its place.
        """
        streams, carry = taken_apart(state)
        check_streams(streams, self.n, self.dim)
        lead, output = streams.shape[:-2], None

        def work(h: Tensor) -> Tensor:
            nonlocal output
            output = self.branch(h.to(streams.dtype).view(*lead, self.dim), *args, **kwargs)
            written = first_of(output)
            made = tuple(written.shape) if isinstance(written, Tensor) else type(written).__name__
            if made != (*lead, self.dim):
                raise UserError(
                    f"the branch made {made} of {(*lead, self.dim)}; a connection needs one that "
                    "returns what it is given, (..., dim), in shape"
                )
            return written.reshape(1, -1, self.dim)

        passed = self.connection(streams.reshape(1, -1, self.n, self.dim), work, carry)
        made = passed.streams.view(streams.shape).to(streams.dtype)
        return with_first(output, (made, passed.carry) if passed.carry else made)


class Expand(nn.Module):
    """Make the streams: (..., dim) -> (..., n, dim), copies or, with LSS, scaled copies."""

    def __init__(self, config: ConnectionConfig, dim: int) -> None:
        check_kind(config)
        super().__init__()
        self.n, self.dim = config.n, dim
        self.make = connections.make_expansion(config, dim)
        self.make.draw(torch.default_generator)

    def forward(self, x: Tensor) -> Tensor:
        """Make the streams of x (..., dim)."""
        if x.shape[-1] != self.dim:
            raise UserError(f"x is {tuple(x.shape)}; these streams were made for dim={self.dim}")
        return self.make(x.reshape(1, -1, self.dim)).view(*x.shape[:-1], self.n, self.dim).to(x.dtype)


class Reduce(nn.Module):
    """Join the streams: (..., n, dim) -> (..., dim), as the arm's `reduce` says."""

    def __init__(self, config: ConnectionConfig, dim: int) -> None:
        super().__init__()
        self.n, self.dim = config.n, dim
        self.join = connections.make_reduction(config, dim, layers=0)

    def forward(self, state: State) -> Tensor:
        """Join streams (..., n, dim), whose last norm is yet to come."""
        streams, carry = taken_apart(state)
        check_streams(streams, self.n, self.dim)
        flat = streams.reshape(1, -1, self.n, self.dim)
        return self.join(flat, carry).view(*streams.shape[:-2], self.dim).to(streams.dtype)


def hyper_connection(
    branch: Callable[..., Any],
    arm: str | ConnectionConfig = "mhc",
    *,
    dim: int,
    layer: int,
    **changes: Any,
) -> Wrapped:
    """Put an arm, by name or settings, around `branch`, (..., dim) -> (..., dim): streams (..., n, dim) in and out.

    What an arm starts at random, as gated_residual its W_d, is drawn from torch's global generator.
    `layer` counts sub-layers from 0 along the depth: the home stream is e_(layer mod n), and a history knows
    layer + 1 states. `changes` are settings of the arm, such as n=2 (docs/your-model.md). UserError as
    `connection_config`, and for dim or layer that cannot be.

    h = H_pre X, y = branch(h), X' = H_res X + H_post^T y (arXiv 2512.24880, Eq. 3).
    """
    config = connection_config(arm, **changes)
    check_count("dim", dim, 1)
    check_count("layer", layer, 0)
    return Wrapped(config, branch, dim, layer)


def expand_and_reduce(
    arm: str | ConnectionConfig = "mhc", *, dim: int, **changes: Any
) -> tuple[Expand, Reduce]:
    """Make what stands before an arm's first sub-layer and behind its last, once each; arguments as there.

    LSS's scales are drawn from torch's global generator.
    """
    config = connection_config(arm, **changes)
    check_count("dim", dim, 1)
    return Expand(config, dim), Reduce(config, dim)


def check_streams(streams: Tensor, n: int, dim: int) -> None:
    """Raise UserError unless streams are (..., n, dim)."""
    if streams.shape[-2:] != (n, dim):
        raise UserError(
            f"streams are {tuple(streams.shape)}; this connection carries (..., {n}, {dim}): "
            "expand once before the first sub-layer, reduce once behind the last"
        )


def check_count(name: str, value: Any, least: int) -> None:
    """Raise UserError unless a value is a whole number from `least` on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value!r}: must be a whole number, {least} or more")
