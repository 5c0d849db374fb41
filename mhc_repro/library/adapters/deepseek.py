"""DeepSeek's mHC: in Hugging Face's transformers, and in code with the reference's own methods.

Both hold `comb`, with which out_i = sum_j comb[j, i] x_j: H_res transposed. Public ports have multiplied by it as
it stands, which the monitor finds out from the streams.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhc_repro.library.adapters.base import Adapter, Sighting, Watch, last_output, maps_of, of_units, overhear

EPS = 1e-6  # of the reference, where a module does not say its own


class DeepseekV4(Adapter):
    """transformers' DeepseekV4HyperConnection, which returns (post, comb, h), and its head."""

    name = "deepseek_v4"

    def matches(self, module: nn.Module) -> bool:
        return self.is_connection(module) or (
            type(module).__name__ == "DeepseekV4HyperHead" and hasattr(module, "input_norm")
        )

    def is_connection(self, module: nn.Module) -> bool:
        return type(module).__name__ == "DeepseekV4HyperConnection" and hasattr(module, "input_norm")

    def attach(self, module: Any, watch: Watch, undo: ExitStack) -> None:
        look = self._mixed if self.is_connection(module) else self._joined
        normed = last_output(module.input_norm, undo)
        hook = module.register_forward_hook(
            lambda _, given, output: look(module, given[0].detach(), normed[0], output, watch)
        )
        undo.callback(hook.remove)

    @torch.no_grad()
    def _mixed(
        self, module: Any, streams: Tensor, normed: Tensor, output: tuple[Tensor, ...], watch: Watch
    ) -> None:
        post, comb, _ = output
        n = streams.shape[-2]
        before, made = self._of_units(module, streams, normed, watch)
        write, turned = (watch.pick(each.detach(), 2) for each in (post, comb))
        maps = maps_of(made[2][0, :, :n], write, turned.mT)
        watch.saw(streams.shape[:2], Sighting(maps, before, doubly_stochastic=True))

    @torch.no_grad()
    def _joined(self, module: Any, streams: Tensor, normed: Tensor, output: Tensor, watch: Watch) -> None:
        last, made = self._of_units(module, streams, normed, watch)
        watch.joined(last, made[0, :, : streams.shape[-2]].T)

    def _of_units(self, module: Any, streams: Tensor, normed: Tensor, watch: Watch) -> tuple[Tensor, Any]:
        """Return the picked streams, and what the module makes of unit streams in their place."""
        picked, held = (watch.pick(x, 2) for x in (streams, normed))
        # By `forward`, past the hooks: this call is not the model's.
        return picked, of_units(
            module.input_norm, held, picked, lambda units: module.forward(units.unsqueeze(0))
        )


class DeepseekReference(Adapter):
    """Any module with the reference's methods hc_pre(x, fn, scale, base) and hc_post(y, x, post, comb)."""

    name = "deepseek"

    def matches(self, module: nn.Module) -> bool:
        return self.is_connection(module) or callable(getattr(type(module), "hc_head", None))

    def is_connection(self, module: nn.Module) -> bool:
        return all(callable(getattr(type(module), name, None)) for name in ("hc_pre", "hc_post"))

    def attach(self, module: nn.Module, watch: Watch, undo: ExitStack) -> None:
        under_way: list[Sighting] = []

        def pre(made: Any, x: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> None:
            n, lead = x.shape[-2], x.shape[:-2]
            before, write, comb = (watch.pick(each.detach(), len(lead)) for each in (x, *made[1:]))
            maps = maps_of(weights_of(module, before, fn[:n], scale[0], base[:n]), write, comb.mT)
            under_way.append(watch.saw(lead, Sighting(maps, before, doubly_stochastic=True)))

        def post(made: Tensor, *_: Any, **__: Any) -> None:
            under_way.pop().after = watch.pick(made.detach(), made.dim() - 2)

        def head(_: Any, x: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> None:
            last = watch.pick(x.detach(), x.dim() - 2)
            watch.joined(last, weights_of(module, last, fn, scale, base).T)

        looks = {"hc_pre": pre, "hc_post": post} if self.is_connection(module) else {"hc_head": head}
        for name, look in looks.items():
            overhear(module, name, look, undo)

    def parameters(self, module: nn.Module) -> Any:
        return (p for name, p in module.named_parameters() if "hc_" in name)


def weights_of(module: Any, streams: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> Tensor:
    """Return sigmoid(scale (x~ fn^T) + base) + eps, x~ = vec(X) under RMSNorm: (K, n, C) -> (K, n)."""
    flat = streams.flatten(1).float()
    norm = (flat.square().mean(-1, keepdim=True) + getattr(module, "norm_eps", EPS)).rsqrt()
    return (functional.linear(flat, fn.float()) * norm * scale + base).sigmoid() + getattr(
        module, "hc_eps", EPS
    )
