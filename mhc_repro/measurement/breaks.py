"""Where a net stops being finite: the first tensor of a step, forward or backward, that holds no number.

A loss that is not finite says that something broke, not what. The step is made once more with every tensor of
the trunk looked at, in the order in which they come to be.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from mhc_repro.connections import Carry, Maps

MAPS = ("H_pre", "H_post", "H_res")


def first_break(model: Any, tokens: Tensor, loss: Callable[[Tensor], Tensor]) -> str:
    """Name the first tensor of a step that is not finite, as `forward: H_res of sub-layer 5`; empty for none.

    `loss` makes the loss of the logits, of `model(tokens)`. Leaves no gradient behind. With the weights of before
    the step and random numbers seeded as then, this is the step itself, in the connections' uncompiled form.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the weights: {name}"
    watch = _Watch()
    with ExitStack() as hooks, torch.enable_grad():
        for branch in model.branches:
            hooks.callback(branch.register_forward_hook(watch.worked).remove)
        hooks.callback(model.norm.register_forward_hook(watch.normed).remove)
        hooks.callback(model.zero_grad)
        for connection in model.connections:
            hooks.callback(setattr, connection, "compiled", connection.compiled)
            connection.compiled = False
        logits = model(tokens, watch.observe)
        watch.look("logits", logits)
        value = loss(logits)
        watch.look("loss", value)
        if not watch.found:
            value.backward()
            for name, parameter in model.named_parameters():
                if parameter.grad is not None:
                    watch.look(f"gradient of {name}", parameter.grad.detach(), "backward")
    return watch.found


class _Watch:
    """Looks at tensors as they come to be, and at their gradients; keeps the first that is not finite."""

    def __init__(self) -> None:
        self.found = ""
        self.of_branch: list[Tensor] = []

    def look(self, what: str, tensor: Tensor, direction: str = "forward") -> None:
        if not self.found and not tensor.isfinite().all():
            self.found = f"{direction}: {what}"
        if direction == "forward" and tensor.requires_grad:
            tensor.register_hook(lambda gradient: self.look(f"gradient of the {what}", gradient, "backward"))

    def observe(self, layer: int, streams: Tensor, maps: Maps | None, _: Carry) -> None:
        names = (*MAPS, "input", "output")
        for name, each in zip(names, (*(maps or ()), *self.of_branch), strict=maps is not None):
            self.look(f"{name} of sub-layer {layer}", each)
        self.of_branch.clear()
        self.look(f"streams after sub-layer {layer}" if layer else "embedding", streams)

    def worked(self, branch: Any, given: tuple[Tensor], output: Tensor) -> None:
        self.of_branch.extend((given[0], output))

    def normed(self, norm: Any, given: tuple[Tensor], output: Tensor) -> None:
        self.look("readout", given[0])
        self.look("final norm", output)
