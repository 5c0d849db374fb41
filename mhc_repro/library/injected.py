"""A connection around a block that is there, which does nothing but the block at step 0.

A block B is x + F(x) with F(x) = B(x) - x, and F becomes the branch of a connection. The n streams start as copies
of the first block's input and travel with the tensor that each block returns, which is their mean: where the model
hands that on to the next block, it hands on these. They stay copies, and the function what it was, as long as

    sum_j H_pre_j = 1        H_post_i = 1        sum_j H_res_ij = 1

which is what starts are moved to; home streams still tell the streams apart, so gradients do. A history
(connections/history.py) has the weights e_newest + a - a_0, a_0 those at its start: they sum to 1 and leave the
simplex by a_0's distance from its vertex, 2e-4 for a softmax, which is the price of a start there with a gradient.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.history import HistoryConnection
from mhc_repro.connections.hyper import HyperConnection
from mhc_repro.connections.wide import wide
from mhc_repro.errors import UserError
from mhc_repro.library.wrapping import Expand, Reduce, State, Wrapped, first_of, with_first

OWN = ("place", "wrapped", "make_streams", "join_streams")  # of an injected block; all else is its block's
STREAMS = "_mhc_repro_streams"  # on the tensor that an injected block returns


class Increment(nn.Module):
    """F(x) = B(x) - x of a block; what else it returns is handed on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return F(x) (..., dim), or what begins with it."""
        output = self.block(x, *args, **kwargs)
        return with_first(output, first_of(output) - x)


class AnchoredHistory(HistoryConnection):
    """A history whose weights are e_newest + a - a_0: x + F(x) at its start."""

    anchor: Tensor

    def __init__(self, config: ConnectionConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__(config, layer, dim=0)  # a state may have any width
        self.to(dtype)
        start = self.history.weights(self.theta.detach(), None)
        newest = torch.eye(len(start), dtype=start.dtype)[0]
        self.register_buffer("anchor", torch.nn.functional.pad(newest - start, (0, self.n - len(start))))

    def companion(self) -> Tensor:
        matrix = super().companion()
        return torch.cat([matrix[:1] + self.anchor, matrix[1:]])


class Injected(nn.Module):
    """A block of a model with a connection around it; its attributes are the block's, to read and to set."""

    def __init__(self, place: str, wrapped: Wrapped, expand: Expand, reduce: Reduce) -> None:
        super().__init__()
        self.place, self.wrapped, self.make_streams, self.join_streams = place, wrapped, expand, reduce

    @property
    def block(self) -> nn.Module:
        """Return the model's own block."""
        return cast(Increment, self.wrapped.branch).block

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            wrapped = cast(Wrapped, super().__getattr__("wrapped"))
            return getattr(cast(Increment, wrapped.branch).block, name)

    def __setattr__(self, name: str, value: Any) -> None:
        known = vars(self)
        if "wrapped" not in known.get("_modules", ()) or name in OWN or name in known or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self.block, name, value)

    def at(self, progress: float) -> None:
        """Tell an arm that follows its training, such as mhc_annealed, which part of it is done."""
        self.wrapped.at(progress)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Carry the streams that x brings along past the block; the first block makes them."""
        output = self.wrapped(self._streams(x), *args, **kwargs)
        state = first_of(output)
        joined = self.join_streams(state)
        setattr(joined, STREAMS, (state, _version(joined)))
        return with_first(output, joined)

    def _streams(self, x: Tensor) -> State:
        if self.wrapped.layer == 0:
            return self.make_streams(x)
        if not hasattr(x, STREAMS):
            raise UserError(
                f"{self.place}: its input brings no streams, so it is not what the block before returned. Gradient "
                "checkpointing around blocks (reentrant) does this, and so does a dropout or anything between "
                "them; use checkpointing with use_reentrant=False, or eject"
            )
        state: State
        state, version = getattr(x, STREAMS)
        if None not in (version, now := _version(x)) and now != version:
            raise UserError(
                f"{self.place}: what the block before returned was changed in place, by a dropout perhaps, and the "
                "streams were not; choose blocks that follow each other, or eject"
            )
        return state


def _version(x: Tensor) -> int | None:
    """Count the changes in place; None where torch does not."""
    return None if torch.compiler.is_compiling() or x.is_inference() else x._version


def injected(config: ConnectionConfig, name: str, block: nn.Module, layer: int, x: Tensor) -> Injected:
    """Put a connection around the block of `layer` (from 0), which was given x (..., dim)."""
    dim = x.shape[-1]
    dtype = wide(x).dtype
    wrapped = Wrapped(config, Increment(block), dim, layer)
    if config.kind == "history":
        wrapped.connection = AnchoredHistory(config, layer, dtype)
    wrapped.connection.to(x.device, dtype)
    if isinstance(wrapped.connection, HyperConnection):
        keep_function(wrapped.connection, dtype)
    made = Injected(name, wrapped, Expand(config, dim), Reduce(config, dim))
    for ours in set(made.modules()) - set(block.modules()):  # what is frozen within the block stays so
        ours.training = block.training
    made.make_streams.to(x.device, dtype)
    return made


@torch.no_grad()
def keep_function(connection: HyperConnection, dtype: torch.dtype) -> None:
    """Move a start to sum_j H_pre_j = 1, in the proportions it had, and H_post_i = 1, to the digits of `dtype`."""
    form = connection.form
    if connection.n == 1 and connection.read is not None and form.gate == "sigmoid":
        raise UserError("connection.n=1: a sigmoid H_pre is never 1; use n=2 or more, or freeze=['read']")
    if connection.mix is not None:
        connection.mix.bias.copy_(form.mixing.initial().to(dtype))
    if connection.read is not None and form.gate == "sigmoid":
        share = connection.read.bias.double().sigmoid()
        whole = 1 - connection.n * form.eps
        connection.read.bias.copy_((whole * share / share.sum()).logit().to(dtype))
    if connection.read is not None and form.gate == "tanh" and connection.read.bias.sum() != 0:
        connection.read.bias.div_(connection.read.bias.sum())
    if connection.write is not None and form.gate != "softmax":
        connection.write.bias.fill_(0.0 if form.gate == "sigmoid" else 1.0)


def why_changed(model: nn.Module, x: Tensor) -> str:
    """Say which condition the connections of an injected model do not keep."""
    first = next(module for module in model.modules() if isinstance(module, Injected))
    if (first.make_streams.make.start() != 1).any():
        return "expand=lss scales the streams, which are then no copies"
    connection = first.wrapped.connection
    n, dim = connection.n, x.shape[-1]
    copies = x.detach().reshape(1, -1, 1, dim)[:, :8].expand(1, -1, n, dim)
    with torch.no_grad():
        maps = connection(copies, torch.zeros_like).maps
    sums = {
        "H_pre sums to": maps.read.sum(0),
        "H_post is": maps.write,
        "rows of H_res sum to": maps.mix.sum(1),
    }
    for what, value in sums.items():
        worst = value.flatten()[(value - 1).abs().argmax()].item()
        if abs(worst - 1) > 10 * torch.finfo(value.dtype).eps:
            return f"at the arm's start {what} {worst:.8g}, not 1"
    if not torch.allclose(first.join_streams(copies), copies[..., 0, :]):
        return "reduce= must be mean: copies of a block's output joined are not that output"
    return ""
