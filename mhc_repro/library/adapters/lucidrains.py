"""PyPI `hyper-connections` (lucidrains): HC and mHC, with a branch or without, streams in the batch or apart."""

from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro.errors import UserError
from mhc_repro.library.adapters.base import (
    Adapter,
    Sighting,
    Undo,
    Watch,
    all_of,
    kept_output,
    maps_of,
    of_units,
    shadow,
)

ARMS = {"HyperConnections": "hc", "ManifoldConstrainedHyperConnections": "mhc"}
MODULES = ("hyper_connections", "manifold_constrained_hyper_connections", "mHCv2")


class Lucidrains(Adapter):
    """Its two methods are looked at: one reads and mixes the streams, the other writes to them."""

    name = "lucidrains"

    def matches(self, module: nn.Module) -> bool:
        package, _, file = type(module).__module__.partition(".")
        known = package == "hyper_connections" and file in MODULES and type(module).__name__ in ARMS
        return known and bool(module.add_branch_out_to_residual)

    def arm(self, module: nn.Module) -> str:
        return f"{ARMS[type(module).__name__]}_of_lucidrains"

    def attach(self, module: nn.Module, watch: Watch) -> Undo:
        if module.num_fracs != 1 or module.num_input_views != 1 or getattr(module, "channel_first", False):
            raise UserError(
                f"{type(module).__name__}: fractions, several input views and channels first are not measured; "
                "pass adapters={its class: a callable} that returns its maps"
            )
        under_way: list[Sighting] = []  # a branch may hold connections of its own
        return all_of(
            shadow(module, "width_connection", self._width(module, watch, under_way)),
            shadow(module, "depth_connection", self._depth(module, watch, under_way)),
        )

    def _width(self, module: Any, watch: Watch, under_way: list[Sighting]) -> Any:
        original = module.width_connection

        def width_connection(residuals: Tensor) -> Any:
            with kept_output(module.norm) as kept:
                made = original(residuals)
            with torch.no_grad(), torch.autocast(residuals.device.type, enabled=False):
                streams = self._unfolded(module, residuals.detach())
                lead = streams.shape[:-2]
                before, normed = (watch.pick(x, len(lead)) for x in (streams, kept[0]))

                def call(picked: Tensor) -> Any:
                    return original(picked.flatten(0, 1) if self._is_folded(module) else picked)

                read, mixed, _ = of_units(module.norm, normed, before, call)
                n = before.shape[1]
                mix = mixed.reshape(len(before), n, -1)[..., :n]
                write = watch.pick(made[2]["beta"].detach(), len(lead)).reshape(-1, n)
                meant = ARMS[type(module).__name__] == "mhc"
                maps = maps_of(read.reshape(len(before), -1)[:, :n], write, mix)
                sighting = Sighting(maps, before, doubly_stochastic=meant)
                under_way.append(watch.saw(lead, sighting))
            return made

        return width_connection

    def _depth(self, module: Any, watch: Watch, under_way: list[Sighting]) -> Any:
        original = module.depth_connection

        def depth_connection(output: Tensor, residuals: Tensor, **kwargs: Any) -> Tensor:
            made: Tensor = original(output, residuals, **kwargs)
            after = self._unfolded(module, made.detach())
            under_way.pop().after = watch.pick(after, after.dim() - 2)
            return made

        return depth_connection

    def _is_folded(self, module: Any) -> bool:
        return not type(module).__module__.endswith("mHCv2")

    def _unfolded(self, module: Any, residuals: Tensor) -> Tensor:
        """Bring streams to (..., n, C)."""
        if not self._is_folded(module):
            return residuals
        return residuals.unflatten(0, (-1, module.num_residual_streams)).movedim(1, -2)
