"""The metrics hook: one eval-mode forward on fixed validation windows, every `probe.every` steps.

It changes nothing in the training it looks at: no gradients, no random numbers, and the plain
(uncompiled) form of the connections, so that its batch shape never recompiles a training kernel.
"""

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mhc_repro.config import ProbeConfig
from mhc_repro.connections.base import Carry, Maps
from mhc_repro.connections.exponent import multiplied_out
from mhc_repro.measurement.seen import Measured, Seen, centred_rms, measured, read_rms, spread


class Probe:
    """Measures gains, maps, kernel and spread of a model on the same `tokens` (windows, sequence) each time."""

    def __init__(self, config: ProbeConfig, tokens: Tensor, steps: int) -> None:
        self.enabled, self.every = config.enabled, config.every
        self.tokens = tokens
        self.steps = steps
        last = -(-steps // self.every)  # probe, from 0, at step min(last * every, steps)
        times = np.linspace(0, last, min(config.token_map_times, last + 1))
        self.token_map_steps = {min(round(i) * self.every, steps) for i in times}
        self.kept = torch.linspace(0, tokens.numel() - 1, config.token_maps).long()

    def due(self, step: int) -> bool:
        """Say whether `step` is probed: every `every` steps, at the start and at the end, if any."""
        return self.enabled and (step % self.every == 0 or step == self.steps)

    def takes_batch(self, step: int) -> bool:
        """Say whether gain/activation is due of a batch (probe.activation=batch): after steps 1, 1 + every, ..."""
        return self.enabled and step > 0 and step % self.every == 1 % self.every

    @torch.no_grad()
    def measure(self, model: nn.Module, step: int) -> Measured:
        """Measure at `step`."""
        return measured(look(model, self.tokens), step, self.kept if step in self.token_map_steps else None)


def look(model: Any, tokens: Tensor) -> Seen:
    """Run the model once in eval mode and keep what its connections and branches did."""
    seen = Seen(start=model.expansion.start(), detached=model.connections[0].detached)
    before = torch.empty(0)

    def observe(layer: int, streams: Tensor, maps: Maps | None, carry: Carry) -> None:
        nonlocal before
        state = multiplied_out(streams, carry.exponent)
        seen.amax.append(state.abs().amax())
        if maps is not None:
            seen.maps.append(maps)
            # From the state itself, which an arm may hand its branch a power of two short of.
            seen.inputs.append(read_rms(maps.read, before.flatten(0, 1)))
            seen.slope.append(model.connections[layer - 1].gate_slope(maps))
            seen.spread.append(spread(state))
        if layer == len(model.connections):
            seen.readout = model.reduction.weights(streams.flatten(0, 1), carry)
            if not model.post:  # a norm between sub-layers is no weight: there is no kernel
                seen.inputs.append(read_rms(seen.readout, state.flatten(0, 1)))
        before = state

    def worked(branch: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        if hasattr(branch, "largest_logit"):
            seen.logits[len(seen.outputs)] = branch.largest_logit(*given).item()
        seen.outputs.append(centred_rms(output.flatten(0, 1)))

    model.eval()
    seen.outputs.append(centred_rms(model.embed(tokens).flatten(0, 1)))
    with ExitStack() as hooks:
        for branch in model.branches:
            hooks.callback(branch.register_forward_hook(worked).remove)
        model(tokens, observe)
    model.train()
    return seen
