"""The metrics hook: one eval-mode forward on fixed validation windows, every `probe.every` steps.

It changes nothing in the training it looks at: no gradients, no random numbers, and the plain
(uncompiled) form of the connections, so that its batch shape never recompiles a training kernel.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mhc_repro.config import ProbeConfig
from mhc_repro.connections import Maps
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.runs.schema import GAINS
from mhc_repro.runs.table import Row


class Probe:
    """Measures gains, maps and spread of a model on the same `tokens` (windows, sequence), int64, each time."""

    def __init__(self, config: ProbeConfig, tokens: Tensor, steps: int) -> None:
        self.every = config.every
        self.tokens = tokens
        self.steps = steps
        probed = [step for step in range(steps + 1) if self.due(step)]
        times = min(config.token_map_times, len(probed))
        self.token_map_steps = {probed[round(i)] for i in np.linspace(0, len(probed) - 1, times)}
        self.kept = torch.linspace(0, tokens.numel() - 1, config.token_maps).long()

    def due(self, step: int) -> bool:
        """Say whether `step` is probed: every `every` steps, at the start and at the end."""
        return step % self.every == 0 or step == self.steps

    @torch.no_grad()
    def measure(self, model: nn.Module, step: int) -> tuple[Row, list[Row], list[Row]]:
        """Measure at `step`; return the metrics of the step, gains rows and tokens rows (one a sub-layer)."""
        h_res: list[Tensor] = []
        amax: list[Tensor] = []
        spread: list[Tensor] = []
        slope: list[Tensor] = []
        connections: Any = model.connections

        def observe(layer: int, streams: Tensor, maps: Maps | None) -> None:
            amax.append(streams.abs().amax())
            if maps is not None:
                slope.append(connections[layer - 1].gate_slope(maps))
                h_res.append(maps.mix.permute(2, 0, 1))
                centred = streams - streams.mean(2, keepdim=True)
                spread.append(centred.norm() / streams.norm())

        model.eval()
        model(self.tokens, observe)
        model.train()
        maps = torch.stack(h_res).cpu().double()
        rows = gain_rows(maps, detached=connections[0].detached)
        of_streams, of_gates = (torch.stack(values).tolist() for values in (spread, slope))
        for i, row in enumerate(rows):
            row |= {"step": step, "spread": of_streams[i], "gate_slope": of_gates[i]}
        # numpy's maximum, since Python's passes over a NaN that does not come first
        summary: Row = {f"gain/{name}": float(np.max([row[name] for row in rows])) for name in GAINS}
        summary["gain/activation"] = (amax[-1] / amax[0]).item()
        summary["streams/spread"] = float(np.max(of_streams))
        kept: list[Row] = []
        if step in self.token_map_steps:
            kept = [
                {"step": step, "layer": layer, "h_res": h[self.kept].flatten().tolist()}
                for layer, h in enumerate(maps, 1)
            ]
        return summary, rows, kept
