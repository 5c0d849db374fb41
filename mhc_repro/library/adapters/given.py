"""Maps as a function of the user's returns them: (module, inputs, outputs) -> (H_pre, H_post, H_res)."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.errors import UserError
from mhc_repro.library.adapters.base import Adapter, Sighting, Watch, maps_of

MapsOf = Callable[[nn.Module, tuple[Any, ...], Any], tuple[Tensor, Tensor, Tensor]]


class Given(Adapter):
    """H_pre (..., n), H_post (..., n), H_res (..., n, n), row i the weights of output stream i; static ones (n, n).

    The streams are the first input of shape (..., n, C); a first output of that shape is what is passed on.
    """

    def __init__(self, modules: set[nn.Module], maps: MapsOf, name: str) -> None:
        self.modules, self.maps, self.name = modules, maps, name

    def matches(self, module: nn.Module) -> bool:
        return module in self.modules

    def parameters(self, module: nn.Module) -> Iterator[nn.Parameter]:
        # Where a module does not say which part of it is the branch, any part may be.
        return super().parameters(module) if hasattr(module, "branch") else module.parameters(recurse=False)

    def attach(self, module: nn.Module, watch: Watch, undo: ExitStack) -> None:
        hook = module.register_forward_hook(
            lambda _, args, kwargs, output: self._look(module, (*args, *kwargs.values()), output, watch),
            with_kwargs=True,
        )
        undo.callback(hook.remove)

    @torch.no_grad()
    def _look(self, module: nn.Module, inputs: tuple[Any, ...], outputs: Any, watch: Watch) -> None:
        made = self.maps(module, inputs, outputs)
        if not isinstance(made, tuple | list) or len(made) != 3:
            raise UserError(
                f"the adapter of {type(module).__name__} returned {type(made).__name__}; it must return three "
                "tensors, H_pre (..., n), H_post (..., n) and H_res (..., n, n)"
            )
        read, write, mix = (torch.as_tensor(each).detach() for each in made)
        n = mix.shape[-1]
        if mix.shape[-2:] != (n, n) or read.shape[-1] != n or write.shape[-1] != n:
            shapes = ", ".join(str(tuple(each.shape)) for each in (read, write, mix))
            raise UserError(
                f"the adapter of {type(module).__name__} returned shapes {shapes}; it must return H_pre (..., n), "
                "H_post (..., n) and H_res (..., n, n)"
            )
        streams, after = _first(inputs, n), None
        lead = mix.shape[:-2] if streams is None else streams.shape[:-2]
        if streams is not None:
            after = _first(outputs if isinstance(outputs, tuple | list) else (outputs,), n, streams.shape)
        maps = maps_of(
            watch.pick(read.expand(*lead, n), len(lead)),
            watch.pick(write.expand(*lead, n), len(lead)),
            watch.pick(mix.expand(*lead, n, n), len(lead)),
        )
        picked = (None if x is None else watch.pick(x.detach(), x.dim() - 2) for x in (streams, after))
        watch.saw(lead, Sighting(maps, next(picked), next(picked)))


def _first(values: Any, n: int, shape: torch.Size | None = None) -> Tensor | None:
    found = (x for x in values if isinstance(x, Tensor) and x.dim() > 2 and x.shape[-2] == n)
    return next((x for x in found if shape is None or x.shape == shape), None)
