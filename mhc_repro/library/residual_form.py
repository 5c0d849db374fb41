"""Is a block x + F(x)? Told by its own additions, on a sample, before anything is touched.

The residual stream is followed from the block's input through every addition that has it as an operand. A block is
x + F(x) if its output is one of these sums; if it is made by anything else, such as a norm, that is the reason.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mhc_repro.errors import UserError
from mhc_repro.library import quiet
from mhc_repro.library.wrapping import first_of

ADDITIONS = ("add", "add_", "__add__", "__radd__", "__iadd__")


class _Stream(TorchFunctionMode):
    """Follows one tensor through additions, and remembers what made every other."""

    def __init__(self, x: Tensor) -> None:
        self.stream = [x]
        self.makers: dict[int, tuple[Tensor, str]] = {}  # the tensor too, or its id is another's soon

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func))
        if isinstance(made, Tensor):
            self.makers[id(made)] = made, name
            continues = any(arg is x for arg in args for x in self.stream)
            if name in ADDITIONS and continues:
                self.stream.append(made)
        return made


@dataclass
class Call:
    """What one call of a block showed."""

    name: str
    given: Tensor
    made: Tensor
    made_by: str  # "" if the output is the stream


def watched(name: str, forward: Callable[..., Any], calls: list[Call]) -> Callable[..., Any]:
    """Return the forward of a block whose calls are taken down."""

    def watching(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else None
        if kwargs and not args:
            raise UserError(
                f"{name}: it is called with names alone, {next(iter(kwargs))}=...; its x comes first, bare"
            )
        if not isinstance(x, Tensor):
            raise UserError(f"{name}: its first argument is no tensor, so there is no x to be x + F(x) of")
        version = x._version
        with _Stream(x) as mode:
            output = forward(*args, **kwargs)
        made = first_of(output)
        if x._version != version:
            raise UserError(
                f"{name} changes its input in place, so that no x is left to take F(x) = B(x) - x of; let it "
                "add to a new tensor, x = x + ... for x += ..."
            )
        if not isinstance(made, Tensor) or made.shape != x.shape:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise UserError(f"{name} makes {shape} of {tuple(x.shape)}: a block x + F(x) keeps the shape")
        streamed = any(made is each for each in mode.stream[1:])
        by = "" if streamed else mode.makers.get(id(made), (made, "something not seen"))[1]
        calls.append(Call(name, x, made, by))
        return output

    return watching


def check(calls: list[Call], names: list[str]) -> None:
    """Raise UserError, with the reason, where blocks are not x + F(x), one behind the other, each called once."""
    order = [call.name for call in calls]
    for name in names:
        if name not in order:
            raise UserError(f"{name}: not called in a forward of the sample, so there is nothing to check")
        if order.count(name) > 1:
            raise UserError(
                f"{name}: called {order.count(name)} times in a forward; a block that is shared by layers would "
                "need a connection for each, so give each layer a block of its own"
            )
    for call in calls:
        if call.made_by:
            raise UserError(
                f"{call.name}: its output comes from {call.made_by}, not from an addition to its input, so it is "
                "not x + F(x)" + (" (a post-norm block)" if "norm" in call.made_by else "")
            )
    for before, call in pairwise(calls):
        if call.given is not before.made:
            raise UserError(
                f"{call.name}: what it reads is not what {before.name} returned; something stands between, and the "
                "streams could not pass it: choose blocks that follow each other"
            )
    widths = sorted({call.given.shape[-1] for call in calls})
    if len(widths) > 1:
        raise UserError(
            f"blocks of {' and '.join(map(str, widths))} features: one set of streams has one width"
        )


@torch.no_grad()
def observe(run: Any, blocks: dict[str, nn.Module]) -> list[Call]:
    """Run the model once and return the calls of its blocks, in order."""
    calls: list[Call] = []
    with ExitStack() as undo:
        for name, block in blocks.items():
            quiet.put(block, "forward", watched(name, block.forward, calls), undo)
        run()
    return calls
