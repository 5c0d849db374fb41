"""What the monitor asks of an adapter, and what an adapter may ask of the monitor.

Some modules do not hand out the maps they apply. They are then asked by their own code: with the norm's output held
at what it was for the true streams, the maps are held too, and what unit streams become is the maps, row by row. So
nothing is typed in again, and what is found is what is applied, in the order in which it is applied.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.connections.base import Maps
from mhc_repro.connections.wide import wide
from mhc_repro.errors import UserError
from mhc_repro.library import quiet

# A module is being asked by its own code, which is no call of the model's for another monitor to see
_ASKING: ContextVar[bool] = ContextVar("asking", default=False)


@dataclass
class Sighting:
    """What one call of a hyper-connection showed of K tokens."""

    maps: Maps  # tokens last; as the code declares them
    before: Tensor | None = None  # streams (K, n, C) that were read
    after: Tensor | None = None  # streams (K, n, C) that were passed on; if None, what the next one reads
    slope: Tensor | None = None  # of the gates, where it is known
    detached: bool = False
    doubly_stochastic: bool = False  # H_res is meant to be
    exchangeable: bool | None = None  # nothing tells the streams apart at the start; None where nobody knows


class Watch:
    """What adapters report to during one forward."""

    def __init__(self, tokens: int | None = None) -> None:
        self.tokens = tokens
        self._places: dict[tuple[torch.Size, torch.device], tuple[Tensor, ...] | None] = {}
        self.sightings: list[Sighting] = []
        self.shape: tuple[int, ...] = ()  # of the batch, (B, T) say
        self.last: Tensor | None = None  # streams at the end
        self.readout: Tensor | None = None  # how they are joined: (n, K or 1)

    def pick(self, x: Tensor, lead: int = 1) -> Tensor:
        """Keep `tokens` of x at equal distances, or all if there are fewer: (*tokens, ...) -> (K, ...).

        The first `lead` dimensions are those of tokens; static maps have none. `tokens` None stands for a quarter
        of them, 64 at least and 256 at most, so that what a look costs shrinks with the batch.
        """
        shape = x.shape[:lead]
        if (shape, x.device) not in self._places:
            self._places[shape, x.device] = self._chosen(shape, x.device)
        places = self._places[shape, x.device]
        return x.reshape(-1, *x.shape[lead:]) if places is None else x[places]  # a view is not copied whole

    def _chosen(self, shape: torch.Size, device: torch.device) -> tuple[Tensor, ...] | None:
        count = math.prod(shape)
        kept = min(256, max(64, count // 4)) if self.tokens is None else self.tokens
        if count <= kept:
            return None
        flat = torch.arange(kept, device=device) * (count - 1) // max(1, kept - 1)
        return torch.unravel_index(flat, shape)

    def saw(self, lead: torch.Size, sighting: Sighting) -> Sighting:
        """Take down a sighting of a batch of `lead` tokens, in the order of the calls."""
        self.shape = self.shape or tuple(lead)
        self.sightings.append(sighting)
        return sighting

    def joined(self, streams: Tensor, weights: Tensor) -> None:
        """Take down the streams (K, n, C) at the end and the weights (n, K or 1) that they are read with."""
        self.last, self.readout = streams, weights


class Adapter(ABC):
    """Reads the hyper-connections of one code base."""

    name: str  # of the arm, in a run

    @abstractmethod
    def matches(self, module: nn.Module) -> bool:
        """Say whether this module is, or joins the streams of, a hyper-connection of this code base."""

    def is_connection(self, module: nn.Module) -> bool:
        """Say whether a module that matches is a hyper-connection, rather than what comes after the last."""
        return True

    @abstractmethod
    def attach(self, module: nn.Module, watch: Watch, undo: ExitStack) -> None:
        """Let `watch` see the module's calls until `undo` is closed."""

    def arm(self, module: nn.Module) -> str:
        """Name the arm that this module is."""
        return self.name

    def parameters(self, module: nn.Module) -> Iterator[nn.Parameter]:
        """Return the parameters of the connection itself, without its branch."""
        return (p for name, p in module.named_parameters() if not name.startswith("branch."))


def overhear(module: nn.Module, name: str, look: Callable[..., None], undo: ExitStack) -> None:
    """Call `look`, without gradients, with what each call of a method made and with what it was given."""
    original = getattr(module, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        if not _ASKING.get():
            asking = _ASKING.set(True)
            try:
                with torch.no_grad():
                    look(made, *args, **kwargs)
            finally:
                _ASKING.reset(asking)
        return made

    quiet.put(module, name, method, undo)


def last_output(norm: nn.Module, undo: ExitStack) -> list[Tensor]:
    """Return a list that holds what the norm made last."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        if not _ASKING.get():
            kept[:] = [output.detach()]

    undo.callback(norm.register_forward_hook(keep).remove)
    return kept


def of_units(norm: nn.Module, normed: Tensor, streams: Tensor, call: Callable[[Tensor], Any]) -> Any:
    """Return `call` of unit streams with the norm's output held at `normed`, that of `streams` (K, n, C).

    Unit stream j is 1 in feature j and 0 elsewhere; `call` takes streams (K, n, C).
    """
    n, features = streams.shape[1:]
    if features < n:
        raise UserError(f"{n} streams of {features} features: maps are read off unit streams, of {n} or more")
    held = norm.register_forward_hook(lambda _, __, output: normed.to(output.dtype).view_as(output))
    try:
        units = torch.eye(n, features, dtype=streams.dtype, device=streams.device)
        return call(units.expand(len(streams), -1, -1))
    finally:
        held.remove()


def maps_of(read: Tensor, write: Tensor, mix: Tensor) -> Maps:
    """Make Maps of H_pre (K, n), H_post (K, n) and H_res (K, n, n), in float32 or wider."""
    read, write, mix = (wide(x.detach()) for x in (read, write, mix))
    return Maps(read.T, write.T, mix.permute(1, 2, 0))
