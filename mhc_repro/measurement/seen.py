"""From what one forward showed to rows of the tables: the one way, in the suite and in any other model."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mhc_repro.connections.base import Maps
from mhc_repro.connections.exponent import of_order_1, order, power_of_two
from mhc_repro.connections.wide import wide
from mhc_repro.measurement import kernel
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.schema import GAINS, Row


class Measured(NamedTuple):
    """What a look adds: to the row of its step in the metrics, and rows of the tables of sub-layers."""

    metrics: Row
    gains: list[Row]
    kernel: list[Row]
    tokens: list[Row]


NOTHING = Measured({}, [], [], [])


@dataclass
class Seen:
    """What one forward showed, sub-layer by sub-layer; what a model does not show stays empty."""

    maps: list[Maps] = field(default_factory=list)
    amax: list[Tensor] = field(default_factory=list)  # of the streams, before the trunk first
    spread: list[Tensor] = field(default_factory=list)
    slope: list[Tensor] = field(default_factory=list)
    logits: dict[int, float] = field(default_factory=dict)  # the largest of each attention, by sub-layer
    inputs: list[Tensor] = field(default_factory=list)  # centred rms of what is read (N,), the readout last
    outputs: list[Tensor] = field(default_factory=list)  # of y (N,), the embedding first
    start: Tensor = field(default_factory=lambda: torch.empty(0))  # weights (n, N or 1) of the embedding
    readout: Tensor = field(default_factory=lambda: torch.empty(0))  # of the streams at the end
    detached: bool = False  # no gradient passes H_res


def measured(seen: Seen, step: int, kept: Tensor | None = None) -> Measured:
    """Describe `seen` at `step`: a row a sub-layer of gains, one more of the kernel, which is the readout's.

    The kernel is made where all inputs and outputs were seen; of the tokens `kept` H_res is kept as it is.
    """
    all_maps = completed(seen.maps)
    mix = torch.stack([maps.mix.permute(2, 0, 1) for maps in all_maps]).cpu().double()
    rows = gain_rows(mix, detached=seen.detached)
    columns = {"spread": seen.spread, "gate_slope": seen.slope}
    lists = {name: torch.stack(values).tolist() for name, values in columns.items() if values}
    for i, (row, maps) in enumerate(zip(rows, all_maps, strict=True)):
        row |= {"step": step} | {name: values[i] for name, values in lists.items()}
        row |= {"h_pre": maps.read.mean(1).tolist(), "h_post": maps.write.mean(1).tolist()}
    for layer, logit in seen.logits.items():
        rows[layer - 1]["attention_logit"] = logit
    # numpy's maximum, since Python's passes over a NaN that does not come first
    metrics: Row = {f"gain/{name}": float(np.max([row[name] for row in rows])) for name in GAINS}
    if seen.amax:
        metrics["gain/activation"] = (seen.amax[-1] / seen.amax[0]).item()
    if seen.spread:
        metrics["streams/spread"] = float(np.max(lists["spread"]))
    if seen.logits:
        metrics["attention/logit"] = float(np.max([*seen.logits.values()]))
    heard: list[Row] = []
    if len(seen.outputs) == len(seen.inputs) == len(seen.maps) + 1:
        heard = [{"step": step} | row for row in kernel.kernel_rows(*kernels(seen))]
        metrics |= kernel.summary(heard)
    tokens: list[Row] = []
    if kept is not None:
        tokens = [
            {"step": step, "layer": layer, "h_res": h[kept].flatten().tolist()}
            for layer, h in enumerate(mix, 1)
        ]
    return Measured(metrics, rows, heard, tokens)


def kernels(seen: Seen) -> tuple[Tensor, Tensor]:
    """Return K and kappa of every token, (L + 1, L + 1, N) each, in float64 on the CPU.

    But for tokens of which some sub-layer reads 0, as of padding: nothing that it hears has a relative size.
    """
    count = len(seen.outputs[0])
    all_maps = completed(seen.maps)
    read = torch.stack([*(maps.read for maps in all_maps), seen.readout.expand(-1, count)])
    write = torch.stack([maps.write for maps in all_maps])
    mix = torch.stack([maps.mix for maps in all_maps])
    start = pad(seen.start, (0, 0, 0, len(read[0]) - len(seen.start))).expand(-1, count)
    made = kernel.depth_kernel(*(each.cpu().double() for each in (start, read, write, mix)))
    outputs, inputs = (torch.stack([x.cpu().double() for x in each]) for each in (seen.outputs, seen.inputs))
    reads = (inputs != 0).all(0)
    kept = reads if reads.any() else slice(None)
    return made[..., kept], kernel.relative_sizes(made, outputs, inputs)[..., kept]


def completed(maps: list[Maps]) -> list[Maps]:
    """Give every sub-layer as many streams as the last one passes on, n each: those to come are 0, and kept.

    So a state that grows has square H_res as any other, of which the new rows alone are not those of I.
    """
    n = len(maps[-1].write)
    return [each if len(each.read) == n else _completed(each, n) for each in maps]


def _completed(maps: Maps, n: int) -> Maps:
    rows, columns, tokens = maps.mix.shape
    mix = torch.eye(n, dtype=maps.mix.dtype, device=maps.mix.device)[..., None].repeat(1, 1, tokens)
    mix[columns:rows] = 0
    mix[:rows, :columns] = maps.mix
    read, write = (pad(each, (0, 0, 0, n - len(each))) for each in (maps.read, maps.write))
    return Maps(read, write, mix)


def read_rms(weights: Tensor, streams: Tensor) -> Tensor:
    """Return the centred rms of H_pre X: (n, N or 1), (N, n, C) -> (N,)."""
    return centred_rms((weights.T[..., None] * streams).sum(1))


def spread(streams: Tensor) -> Tensor:
    """Return the norm of what differs between streams (..., n, C) over the norm of all."""
    streams = of_order_1(wide(streams).flatten(), 0).view(streams.shape)
    return (streams - streams.mean(-2, keepdim=True)).norm() / streams.norm()


def centred_rms(x: Tensor) -> Tensor:
    """Return the root mean square of x (N, C), the features' mean taken away, in float32 or wider: (N,)."""
    x = wide(x)
    exponent = order(x, (-1,))  # of numbers whose squares may be out of range
    scaled = x * power_of_two(-exponent, x.dtype)[:, None]
    return scaled.std(-1, correction=0) * power_of_two(exponent, x.dtype)
