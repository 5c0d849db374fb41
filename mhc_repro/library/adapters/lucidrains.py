"""PyPI `hyper-connections` (lucidrains): HC and mHC, with a branch or without, streams in the batch or apart."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.errors import UserError
from mhc_repro.library.adapters.base import Adapter, Sighting, Watch, last_output, maps_of, of_units, overhear

ARMS = {"HyperConnections": "hc", "ManifoldConstrainedHyperConnections": "mhc"}
MODULES = ("hyper_connections", "manifold_constrained_hyper_connections", "mHCv2")


class Lucidrains(Adapter):
    """Its two methods are looked at: one reads and mixes the streams, the other writes to them."""

    def matches(self, module: nn.Module) -> bool:
        package, _, file = type(module).__module__.partition(".")
        known = package == "hyper_connections" and file in MODULES and type(module).__name__ in ARMS
        return known and bool(module.add_branch_out_to_residual)

    def arm(self, module: nn.Module) -> str:
        return f"{ARMS[type(module).__name__]}_of_lucidrains"

    def attach(self, module: Any, watch: Watch, undo: ExitStack) -> None:
        if module.num_fracs != 1 or module.num_input_views != 1 or getattr(module, "channel_first", False):
            raise UserError(
                f"{type(module).__name__}: fractions, several input views and channels first are not measured; "
                "pass adapters={its class: a callable} that returns its maps"
            )
        under_way: list[Sighting] = []  # a branch may hold connections of its own
        normed, original = last_output(module.norm, undo), module.width_connection

        def call(picked: Tensor) -> Any:
            return original(picked.flatten(0, 1) if self._is_folded(module) else picked)

        def width(made: Any, residuals: Tensor) -> None:
            streams = self._unfolded(module, residuals.detach())
            lead, n = streams.shape[:-2], streams.shape[-2]
            before, held = (watch.pick(x, len(lead)) for x in (streams, normed[0]))
            with torch.autocast(residuals.device.type, enabled=False):
                read, mixed, _ = of_units(module.norm, held, before, call)
            mix = mixed.reshape(len(before), n, -1)[..., :n]
            write = watch.pick(made[2]["beta"].detach(), len(lead)).reshape(-1, n)
            maps = maps_of(read.reshape(len(before), -1)[:, :n], write, mix)
            meant = ARMS[type(module).__name__] == "mhc"
            under_way.append(watch.saw(lead, Sighting(maps, before, doubly_stochastic=meant)))

        def depth(made: Tensor, *_: Any, **__: Any) -> None:
            after = self._unfolded(module, made.detach())
            under_way.pop().after = watch.pick(after, after.dim() - 2)

        overhear(module, "width_connection", width, undo)
        overhear(module, "depth_connection", depth, undo)

    def _is_folded(self, module: Any) -> bool:
        return not type(module).__module__.endswith("mHCv2")

    def _unfolded(self, module: Any, residuals: Tensor) -> Tensor:
        """Bring streams to (..., n, C)."""
        if not self._is_folded(module):
            return residuals
        return residuals.unflatten(0, (-1, module.num_residual_streams)).movedim(1, -2)
