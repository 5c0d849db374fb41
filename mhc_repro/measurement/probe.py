"""The metrics hook: one eval-mode forward on fixed validation windows, every `probe.every` steps.

It changes nothing in the training it looks at: no gradients, no random numbers, and the plain
(uncompiled) form of the connections, so that its batch shape never recompiles a training kernel.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mhc_repro.config import ProbeConfig
from mhc_repro.connections.base import Maps, Passed
from mhc_repro.connections.ends import readout_weights, start_weights
from mhc_repro.connections.exponent import multiplied_out
from mhc_repro.measurement import kernel
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.runs.schema import GAINS
from mhc_repro.runs.table import Row


class Measured(NamedTuple):
    """What a probe adds: to the row of its step in the metrics, and rows of the tables of sub-layers."""

    metrics: Row
    gains: list[Row]
    kernel: list[Row]
    tokens: list[Row]


NOTHING = Measured({}, [], [], [])


@dataclass
class Seen:
    """What one forward showed, sub-layer by sub-layer."""

    maps: list[Maps] = field(default_factory=list)
    amax: list[Tensor] = field(default_factory=list)  # of the streams, before the trunk first
    spread: list[Tensor] = field(default_factory=list)
    slope: list[Tensor] = field(default_factory=list)
    logits: dict[int, float] = field(default_factory=dict)  # the largest of each attention, by sub-layer
    inputs: list[Tensor] = field(default_factory=list)  # centred rms of what is read (N,), the readout last
    outputs: list[Tensor] = field(default_factory=list)  # of y (N,), the embedding first
    readout: Tensor = field(default_factory=lambda: torch.empty(0))  # weights of the streams at the end


class Probe:
    """Measures gains, maps, kernel and spread of a model on the same `tokens` (windows, sequence) each time."""

    def __init__(self, config: ProbeConfig, tokens: Tensor, steps: int) -> None:
        self.every = config.every
        self.tokens = tokens
        self.steps = steps
        last = -(-steps // self.every)  # probe, from 0, at step min(last * every, steps)
        times = np.linspace(0, last, min(config.token_map_times, last + 1))
        self.token_map_steps = {min(round(i) * self.every, steps) for i in times}
        self.kept = torch.linspace(0, tokens.numel() - 1, config.token_maps).long()

    def due(self, step: int) -> bool:
        """Say whether `step` is probed: every `every` steps, at the start and at the end."""
        return step % self.every == 0 or step == self.steps

    @torch.no_grad()
    def measure(self, model: nn.Module, step: int) -> Measured:
        """Measure at `step`; the gains have a row a sub-layer, the kernel one more, which is the readout's."""
        body: Any = model
        seen = look(body, self.tokens)
        mix = torch.stack([maps.mix.permute(2, 0, 1) for maps in seen.maps]).cpu().double()
        rows = gain_rows(mix, detached=body.connections[0].detached)
        of_streams, of_gates = (torch.stack(values).tolist() for values in (seen.spread, seen.slope))
        for i, (row, maps) in enumerate(zip(rows, seen.maps, strict=True)):
            row |= {"step": step, "spread": of_streams[i], "gate_slope": of_gates[i]}
            row |= {"h_pre": maps.read.mean(1).tolist(), "h_post": maps.write.mean(1).tolist()}
        for layer, logit in seen.logits.items():
            rows[layer - 1]["attention_logit"] = logit
        # numpy's maximum, since Python's passes over a NaN that does not come first
        metrics: Row = {f"gain/{name}": float(np.max([row[name] for row in rows])) for name in GAINS}
        metrics["gain/activation"] = (seen.amax[-1] / seen.amax[0]).item()
        metrics["streams/spread"] = float(np.max(of_streams))
        metrics["attention/logit"] = float(np.max([*seen.logits.values()]))
        heard: list[Row] = []
        if not body.post:  # a norm between sub-layers is no weight
            heard = [{"step": step} | row for row in kernel.kernel_rows(*kernels(body, seen))]
            metrics |= kernel.summary(heard)
        kept: list[Row] = []
        if step in self.token_map_steps:
            kept = [
                {"step": step, "layer": layer, "h_res": h[self.kept].flatten().tolist()}
                for layer, h in enumerate(mix, 1)
            ]
        return Measured(metrics, rows, heard, kept)


def look(model: Any, tokens: Tensor) -> Seen:
    """Run the model once in eval mode and keep what its connections and branches did."""
    seen = Seen()
    before = torch.empty(0)
    exponent: Tensor | None = None

    def read(weights: Tensor, state: Tensor) -> Tensor:
        return _rms((weights.T[..., None] * state.flatten(0, 1)).sum(1))

    def observe(layer: int, streams: Tensor, maps: Maps | None) -> None:
        nonlocal before
        state = multiplied_out(streams, exponent)
        seen.amax.append(state.abs().amax())
        if maps is not None:
            seen.maps.append(maps)
            # From the state itself, which an arm may hand its branch a power of two short of.
            seen.inputs.append(read(maps.read, before))
            seen.slope.append(model.connections[layer - 1].gate_slope(maps))
            seen.spread.append((state - state.mean(2, keepdim=True)).norm() / state.norm())
        if layer == len(model.connections):
            seen.readout = readout_weights(model.reduction, streams)
            seen.inputs.append(read(seen.readout, state))
        before = state

    def passed_on(_: Any, __: Any, passed: Passed) -> None:
        nonlocal exponent
        exponent = passed.exponent

    def worked(branch: Any, given: tuple[Tensor], output: Tensor) -> None:
        if hasattr(branch, "largest_logit"):
            seen.logits[len(seen.outputs)] = branch.largest_logit(given[0]).item()
        seen.outputs.append(_rms(output.flatten(0, 1)))

    model.eval()
    seen.outputs.append(_rms(model.embed(tokens).flatten(0, 1)))
    with ExitStack() as hooks:
        for branch in model.branches:
            hooks.callback(branch.register_forward_hook(worked).remove)
        for connection in model.connections:
            hooks.callback(connection.register_forward_hook(passed_on).remove)
        model(tokens, observe)
    model.train()
    return seen


def kernels(model: Any, seen: Seen) -> tuple[Tensor, Tensor]:
    """Return K and kappa of every token, (L + 1, L + 1, N) each, in float64 on the CPU."""
    count = len(seen.outputs[0])
    read = torch.stack([*(maps.read for maps in seen.maps), seen.readout.expand(-1, count)])
    write = torch.stack([maps.write for maps in seen.maps])
    mix = torch.stack([maps.mix for maps in seen.maps])
    start = start_weights(model.expansion, model.n).expand(-1, count)
    made = kernel.depth_kernel(*(each.cpu().double() for each in (start, read, write, mix)))
    sizes = (torch.stack([x.cpu().double() for x in each]) for each in (seen.outputs, seen.inputs))
    return made, kernel.relative_sizes(made, *sizes)


def _rms(x: Tensor) -> Tensor:
    return kernel.centred_rms(x.to(torch.promote_types(x.dtype, torch.float32)))
