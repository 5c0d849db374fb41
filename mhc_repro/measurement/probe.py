"""The metrics hook: one eval-mode forward on fixed validation windows, every `probe.every` steps.

It changes nothing in the training it looks at: no gradients, no random numbers, and the plain
(uncompiled) form of the connections, so that its batch shape never recompiles a training kernel.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mhc_repro.config import ProbeConfig
from mhc_repro.measurement import gains

Row = dict[str, Any]


class Probe:
    """Measures gains, maps and spread of a model on the same tokens each time."""

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
        before = torch.empty(0)

        def observe(layer: int, streams: Tensor, mix: Tensor) -> None:
            nonlocal before
            amax.append(streams.abs().amax())
            if layer > 0:
                slope.append(gate_slope(model, layer, before))
                h_res.append(mix.permute(2, 0, 1))
                centred = streams - streams.mean(2, keepdim=True)
                spread.append(centred.norm() / streams.norm())
            before = streams

        model.eval()
        model(self.tokens, observe)
        model.train()
        maps = torch.stack(h_res).cpu().double()
        rows = gain_rows(maps, cut=any(getattr(each, "detached", False) for each in model.modules()))
        of_streams, of_gates = (torch.stack(values).tolist() for values in (spread, slope))
        for i, row in enumerate(rows):
            row |= {"step": step, "spread": of_streams[i], "gate_slope": of_gates[i]}
        names = ("single_forward", "single_backward", "composite_forward", "composite_backward")
        summary = {f"gain/{name}": max(row[name] for row in rows) for name in names}
        summary["gain/activation"] = (amax[-1] / amax[0]).item()
        summary["streams/spread"] = max(row["spread"] for row in rows)
        kept: list[Row] = []
        if step in self.token_map_steps:
            kept = [
                {"step": step, "layer": layer, "h_res": h[self.kept].flatten().tolist()}
                for layer, h in enumerate(maps, 1)
            ]
        return summary, rows, kept


def gate_slope(model: nn.Module, layer: int, streams: Tensor) -> Tensor:
    """Return how far the gates of sub-layer `layer` (from 1) are from saturation; 1 where there are none."""
    connections: Any = model.get_submodule("connections")
    slope = getattr(connections[layer - 1], "gate_slope", None)
    return slope(streams.flatten(0, 1)) if slope else streams.new_ones(())


def gain_rows(h_res: Tensor, cut: bool = False) -> list[Row]:
    """Describe each sub-layer of h_res (L, N, n, n) by its gains, distances and token-mean matrices.

    `cut`: no gradient passes H_res, so what the backward gains are taken of is 0.
    """
    n = h_res.shape[-1]
    seen_back = torch.zeros_like(h_res) if cut else h_res
    forward, backward = gains.composite_forward(h_res), gains.composite_backward(seen_back)
    single_mean, forward_mean, backward_mean = map(gains.token_mean, (h_res, forward, backward))
    columns: dict[str, Tensor] = {}
    for name, per_token, mean, gain, axis in (
        ("single_forward", h_res, single_mean, gains.forward_gain, -1),
        ("single_backward", seen_back, gains.token_mean(seen_back), gains.backward_gain, -2),
        ("composite_forward", forward, forward_mean, gains.forward_gain, -1),
        ("composite_backward", backward, backward_mean, gains.backward_gain, -2),
    ):
        columns[name] = gain(mean)
        columns[f"{name}_token"] = gain(per_token).mean(1)
        columns[f"{name}_norm"] = mean.abs().sum(axis).amax(-1)
    eye = torch.eye(n, dtype=h_res.dtype)
    columns["min_column_sum"] = backward_mean.sum(-2).amin(-1)
    columns["distance_identity"] = (single_mean - eye).flatten(1).norm(dim=1)
    columns["distance_uniform"] = (single_mean - 1 / n).flatten(1).norm(dim=1)
    finite = forward_mean.isfinite().all(-1).all(-1)
    sigma2 = torch.linalg.svdvals(forward_mean.where(finite[:, None, None], eye))[:, 1:2].sum(1)  # 0 if n = 1
    columns["sigma2"] = sigma2.where(finite, torch.nan)
    columns["h_single"], columns["h_forward"], columns["h_backward"] = (
        mean.flatten(1) for mean in (single_mean, forward_mean, backward_mean)
    )
    lists = {name: column.tolist() for name, column in columns.items()}
    return [
        {"layer": layer + 1} | {name: values[layer] for name, values in lists.items()}
        for layer in range(len(h_res))
    ]
