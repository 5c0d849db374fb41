"""A forward that leaves no trace in a model: modes, random numbers and buffers stay as they were."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn


def call_of(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that `inputs` stand for: a tensor, a tuple or list, a dict, or (the others, a dict)."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], dict):
        return call_of(inputs[0])[0], inputs[1]
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def put(module: nn.Module, name: str, value: Any, undo: ExitStack) -> None:
    """Give a module an attribute until `undo` is closed, and then back what it had of its own."""
    own = vars(module)
    if name in own:
        undo.callback(own.__setitem__, name, own[name])
    else:
        undo.callback(own.pop, name, None)
    own[name] = value


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a model in eval mode, without gradients, compiled code or a trace in torch's random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {each.device for each in (*model.parameters(), *model.buffers()) if each.device.type == "cuda"}
    model.eval()
    try:
        with torch.random.fork_rng([*devices]), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for module, name, buffer, was in buffers:
                now = getattr(module, name, None)
                if now is not None and now.shape != was.shape:
                    continue  # a cache that has grown, whose size the module also keeps elsewhere
                if not torch.equal(buffer, was):
                    buffer.copy_(was)
                setattr(module, name, buffer)
