"""Connections put into a model that is already there, whose function at step 0 stays what it was, and taken out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import is_dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig
from mhc_repro.errors import UserError
from mhc_repro.library.finding import matching
from mhc_repro.library.injected import Injected, injected, why_changed
from mhc_repro.library.quiet import call_of, evaluating
from mhc_repro.library.residual_form import check, observe
from mhc_repro.library.settings import connection_config
from mhc_repro.library.wrapping import check_kind
from mhc_repro.words import one_line

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
SHARING = ("DistributedDataParallel", "FullyShardedDataParallel")  # of the parameters that they found
NARROW = 5e-2  # of bfloat16 and float16, whose rounding F(x) = B(x) - x meets once more


def inject(
    model: nn.Module,
    target: type | str,
    connection: str | ConnectionConfig = "mhc",
    n: int | None = None,
    *,
    sample: Any = None,
    **changes: Any,
) -> nn.Module:
    """Put a connection around every block of `model` that `target` names, and return the model, changed in place.

    `target` is a class, its name, or a pattern of module names such as "transformer.h.*"; `connection` an arm of
    this package with `n` streams (the arm's own number if None) and `changes` to its settings. `sample` is an input
    of the model, a tensor, tuple or dict; a transformers model of tokens has one of its own. On it every block is
    checked to be x + F(x), and the whole model to give what it gave: to 1e-5 in float32, 1e-10 in float64, relative
    to the largest output. Raises UserError with the reason otherwise, and the model is then as it was.
    """
    if any(isinstance(module, Injected) for module in model.modules()):
        raise UserError(f"{type(model).__name__} has been injected already; eject(model) first")
    if wrapper := next((name for each in model.modules() if (name := type(each).__name__) in SHARING), None):
        raise UserError(
            f"model: it is in {wrapper} already, to which new parameters are unknown; inject first"
        )
    given = connection_config(connection)
    check_kind(given)
    settings = ({} if given.single_pass else {"reduce": "mean"}) | ({} if n is None else {"n": n}) | changes
    config = connection_config(connection, **settings)
    blocks = _blocks(model, target)
    run = _runner(model, sample)
    before = run()
    if not before:
        raise UserError("sample=: the model returns no tensor of floats, so there is nothing to hold it to")
    if any(each.isnan().any() for each in before):
        raise UserError("sample=: the model gives NaN on it, so there is nothing to hold it to; give another")
    calls = observe(run, blocks)
    check(calls, list(blocks))
    with ExitStack() as undo:
        undo.callback(eject, model)
        for layer, call in enumerate(calls):
            _put(model, call.name, injected(config, call.name, blocks[call.name], layer, call.given))
        off = _difference(before, run())
        limit = TOLERANCE.get(calls[0].given.dtype, NARROW)
        if not off <= limit:
            why = (
                why_changed(model, calls[0].given)
                or "what the blocks return is used by more than the next block"
            )
            raise UserError(
                f"connection={config.name}: the model's output would change by {off:.1e} of the largest, more than "
                f"{limit:g}: {why}; nothing was injected"
            )
        undo.pop_all()
    return model


def eject(model: nn.Module) -> nn.Module:
    """Give the blocks of an injected model back, as they are now, and return the model, changed in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Injected):
            _put(model, name, module.block)
    return model


def _blocks(model: nn.Module, target: type | str) -> dict[str, nn.Module]:
    chosen = {id(module) for module in matching(model, target)}
    places: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in chosen and name:
            if any(module is other for other in places.values()):
                first = next(key for key, other in places.items() if other is module)
                raise UserError(
                    f"{name} is {first}: shared blocks would share one connection; copy them first"
                )
            places[name] = module
    if not places:
        raise UserError(f"target={target!r}: that is {type(model).__name__} itself; name the blocks in it")
    for name in places:
        outer = next((other for other in places if name.startswith(f"{other}.")), None)
        if outer is not None:
            raise UserError(f"{name} lies in {outer}: target names both; name the one or the other")
    return places


def _runner(model: nn.Module, sample: Any) -> Callable[[], list[Tensor]]:
    if sample is None:
        sample = getattr(model, "dummy_inputs", None)
    if sample is None:
        raise UserError("sample=: an input of the model is needed, on which blocks and outputs are checked")
    args, kwargs = call_of(sample)

    def run() -> list[Tensor]:
        with evaluating(model):
            try:
                return list(_tensors(model(*args, **kwargs)))
            except UserError:
                raise
            except Exception as error:
                raise UserError(
                    f"sample=: the model cannot be called with it ({type(error).__name__}: {one_line(error)})"
                ) from error

    return run


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _tensors(each)
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)
    elif is_dataclass(output):
        yield from _tensors(vars(output))


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest difference of two outputs, relative to the largest of each; inf where one of them is."""
    return max((_off(old, new) for old, new in zip(before, after, strict=True)), default=0.0)


def _off(old: Tensor, new: Tensor) -> float:
    finite = old.isfinite()
    if not torch.equal(old[~finite], new[~finite]):
        return inf
    if not finite.any():
        return 0.0
    off = (new[finite] - old[finite]).abs().amax() / old[finite].abs().amax().clamp_min(1e-30)
    return off.double().item()


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
