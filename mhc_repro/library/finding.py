"""Which modules of a model are hyper-connections: known by an adapter, or named by the user."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn
from torch._dynamo.eval_frame import OptimizedModule

from mhc_repro.errors import UserError
from mhc_repro.library.adapters import ADAPTERS, Adapter, Given


class Found(NamedTuple):
    """A module and what reads it."""

    name: str
    module: nn.Module
    adapter: Adapter

    @property
    def arm(self) -> str:
        """Return the arm that it is."""
        return self.adapter.arm(self.module)


def find(model: nn.Module, given: Mapping[type | str, Callable[..., Any]]) -> list[Found]:
    """Return all modules to look at; UserError where none is a hyper-connection, with the nearest names."""
    adapters: list[Adapter] = [
        Given(set(matching(model, target)), maps, _label(target)) for target, maps in given.items()
    ]
    found, seen = [], set()
    for name, module in model.named_modules():
        adapter = next((each for each in (*adapters, *ADAPTERS) if each.matches(module)), None)
        if adapter is not None and module not in seen:
            seen.add(module)
            found.append(Found(name, module, adapter))
    counted = [each for each in found if each.adapter.is_connection(each.module)]
    if not counted:
        known = "this package's, lucidrains', transformers' DeepSeek-V4, DeepSeek's hc_pre and hc_post"
        raise UserError(
            f"{type(model).__name__} has no hyper-connection that is known ({known}); it is made of "
            f"{classes(model)}: for one of your own give adapters={{its class: a function}}"
        )
    # A connection first, so that the arm's name is a connection's.
    return counted + [each for each in found if not each.adapter.is_connection(each.module)]


def matching(model: nn.Module, target: type | str) -> list[nn.Module]:
    """Return the modules of a class, by itself or by its name, or whose name fits a pattern; UserError if none."""
    found = [module for name, module in model.named_modules() if _fits(name, module, target)]
    if not found:
        names = [name for name, _ in model.named_modules() if name]
        wanted = target if isinstance(target, str) else target.__name__
        near = get_close_matches(
            wanted, {*names, *(type(m).__name__ for m in model.modules())}, n=3, cutoff=0.4
        )
        kind = type(model).__name__
        raise UserError(
            f"{wanted}: no module of {kind} is called so or is of such a class; {_hint(model, near)}"
        )
    return found


def named(model: nn.Module, name: str) -> nn.Module:
    """Return the module of a name; UserError with the nearest ones where there is none."""
    known = dict(model.named_modules())
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.3)
        raise UserError(f"{name}: no module of {type(model).__name__} is called so; {_hint(model, near)}")
    return known[name]


def _hint(model: nn.Module, near: Sequence[str]) -> str:
    return f"nearest: {', '.join(near)}" if near else f"the model is made of {classes(model)}"


def _fits(name: str, module: nn.Module, target: type | str) -> bool:
    if isinstance(target, str):
        places, wanted = name.split("."), target.split(".")  # a * does not reach over a dot
        named = len(places) == len(wanted) and all(map(fnmatchcase, places, wanted))
        return target == type(module).__name__ or named
    return isinstance(module, target)


def _label(target: type | str) -> str:
    words = target if isinstance(target, str) else target.__name__
    return "".join(letter for letter in words if letter.isalnum() or letter in "._-").lstrip("._-") or "given"


def classes(model: nn.Module) -> str:
    """Name the classes that a model has most of."""
    return ", ".join(name for name, _ in Counter(type(m).__name__ for m in model.modules()).most_common(6))


def inner(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, OptimizedModule):
            model = model._orig_mod
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def is_compiled(model: nn.Module) -> bool:
    """Say whether any part of a model is compiled."""
    return any(
        isinstance(module, OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    )
