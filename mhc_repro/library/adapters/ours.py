"""The connections of this package, wrapped, injected or in its own Transformer."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.connections.base import NOTHING, Connection, Maps, Passed
from mhc_repro.connections.ends import Reduction
from mhc_repro.connections.exponent import multiplied_out
from mhc_repro.connections.wide import wide
from mhc_repro.library.adapters.base import Adapter, Sighting, Watch


class Ours(Adapter):
    """Hands out its maps and both ends of its streams."""

    def matches(self, module: nn.Module) -> bool:
        return isinstance(module, Connection | Reduction)

    def is_connection(self, module: nn.Module) -> bool:
        return isinstance(module, Connection)

    def arm(self, module: Any) -> str:
        return str(module.config.name)

    def attach(self, module: Any, watch: Watch, undo: ExitStack) -> None:
        if isinstance(module, Reduction):
            hook = module.register_forward_pre_hook(lambda _, given: self._joined(module, given, watch))
        else:
            hook = module.register_forward_hook(
                lambda _, given, passed: self._passed(module, given, passed, watch)
            )
        undo.callback(hook.remove)

    @torch.no_grad()
    def _passed(self, module: Connection, given: tuple[Any, ...], passed: Passed, watch: Watch) -> None:
        streams, carry = given[0], given[2] if len(given) > 2 else NOTHING
        maps = Maps(*(watch.pick(each.detach().movedim(-1, 0)).movedim(0, -1) for each in passed.maps))
        states = ((streams, carry), (passed.streams, passed.carry))
        before, after = (watch.pick(multiplied_out(x, of.exponent).detach(), 2) for x, of in states)
        slope = module.gate_slope(passed.maps)
        sighting = Sighting(maps, before, after, slope, module.detached, *module.known)
        watch.saw(streams.shape[:2], sighting)

    @torch.no_grad()
    def _joined(self, module: Reduction, given: tuple[Any, ...], watch: Watch) -> None:
        streams, carry = given[0], given[1] if len(given) > 1 else NOTHING
        picked: Tensor = watch.pick(multiplied_out(streams, carry.exponent), 2)
        handed = carry if carry.read is None else carry._replace(read=watch.pick(carry.read.T).T)
        with torch.autocast(streams.device.type, enabled=False):
            watch.joined(picked, module.weights(wide(picked), handed))
