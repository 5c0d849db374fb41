"""Forwards of a model that are seen through its adapters: the training's own as they come, or some apart."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.errors import UserError
from mhc_repro.library.adapters import Watch
from mhc_repro.library.finding import Found, inner, is_compiled
from mhc_repro.library.quiet import call_of, evaluating
from mhc_repro.measurement.jacobian import power_gains


class Looks:
    """Shows `digest` what adapters saw of a forward; of a compiled model, in one more on the same inputs."""

    def __init__(
        self, outer: nn.Module, found: Sequence[Found], tokens: int | None, digest: Callable[[Watch], None]
    ) -> None:
        self.outer, self.model = outer, inner(outer)
        self.found, self.tokens, self.digest = found, tokens, digest
        self.compiled = is_compiled(outer)
        self.inputs: Any = None  # of the last forward that was seen
        self.shape: tuple[int, ...] = ()  # of its first tensor, two axes
        self.seconds = 0.0  # that looking has taken
        self._watch: Watch | None = None
        self._attached = ExitStack()

    def listen(self, due: Callable[[], bool]) -> ExitStack:
        """See the training's forwards that are `due`; return what ends it when it is closed."""

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._watch is None and due() and torch.is_grad_enabled() and self.outer.training:
                self._watch = Watch(self.tokens) if self.compiled else self._attach(self._attached)
                self._given(args, kwargs)

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            watch, self._watch = self._watch, None
            self._attached.close()
            failed = output is None and sys.exc_info()[0] is not None
            if watch is None or failed:
                return
            if self.compiled:
                self.apart((args, kwargs))
            else:
                self._digest(watch)

        hooks = ExitStack()
        hooks.callback(self.outer.register_forward_pre_hook(before, with_kwargs=True).remove)
        # Before those of an earlier listener, so that of two each takes back what it put where it put it.
        ended = self.outer.register_forward_hook(after, prepend=True, with_kwargs=True, always_call=True)
        hooks.callback(ended.remove)
        return hooks

    def apart(self, inputs: Any) -> None:
        """See a forward of its own, in eval mode and without gradients."""
        started = time.perf_counter()
        args, kwargs = call_of(inputs)
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            watch = self._attach(stack)
            self._given(args, kwargs)
            self.model(*args, **kwargs)
        self.seconds += time.perf_counter() - started
        self._digest(watch)

    def between(self, first: nn.Module, last: nn.Module) -> tuple[float, float]:
        """Return how far a random and the worst change of one module's output move another's, on `inputs`.

        Raises UserError where the one makes no tensor, or the other does not depend on it.
        """
        args, kwargs = call_of(self.inputs)
        put: list[Tensor] = []
        kept: list[Tensor] = []

        def enter(_: nn.Module, __: Any, output: Any) -> Any:
            kept[:] = [_tensor(output)]
            if not put:
                return None
            if isinstance(output, Tensor):
                return put[0]
            make = getattr(output, "_make", type(output))  # a named tuple takes its parts one by one
            return make((put[0], *output[1:]))

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            kept[:] = [_tensor(output)]

        def through(x: Tensor) -> Tensor:
            put[:] = [x]
            self.model(*args, **kwargs)
            return kept[0]

        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            stack.callback(first.register_forward_hook(enter).remove)
            self.model(*args, **kwargs)
            x = kept[0]
            stack.callback(last.register_forward_hook(leave).remove)
            with torch.enable_grad():
                at = x.clone().requires_grad_()
                made = through(at)
                depends = (
                    made.requires_grad
                    and torch.autograd.grad(made.sum(), at, allow_unused=True)[0] is not None
                )
            if not depends:
                raise UserError(
                    "jacobian: what the second module makes does not depend on what the first makes"
                )
            return power_gains(through, x, torch.Generator().manual_seed(0))

    def _attach(self, stack: ExitStack) -> Watch:
        watch = Watch(self.tokens)
        for found in self.found:
            found.adapter.attach(found.module, watch, stack)
        return watch

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.inputs = args, kwargs
        shapes = (each.shape for each in (*args, *kwargs.values()) if isinstance(each, Tensor))
        self.shape = tuple(next(shapes, ()))[:2]

    def _digest(self, watch: Watch) -> None:
        started = time.perf_counter()
        self.digest(watch)
        self.seconds += time.perf_counter() - started


def _tensor(output: Any) -> Tensor:
    """Return what a module makes, or the first of it."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(first, Tensor):
        raise UserError(
            f"jacobian: a module that makes {type(output).__name__}; it must make a tensor, or begin with one"
        )
    return first
