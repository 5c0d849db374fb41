"""From what adapters saw to what the suite's own probe sees; and which way round H_res is applied.

X' = H_res X + H_post^T y holds for some y, so what of X' - H_res X is not along H_post must vanish. Where it does
for the transpose instead, H_res is used transposed, and it is the transpose that is measured.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from mhc_repro.connections.base import Maps
from mhc_repro.connections.wide import wide
from mhc_repro.errors import UserError
from mhc_repro.library.adapters.base import Sighting, Watch
from mhc_repro.measurement.seen import Seen, centred_rms, read_rms, spread

ENOUGH = 64  # tokens, to tell which way round
CLEARLY = 10.0  # times as well as the other way round
FINE = 100.0  # rounding errors of the streams' numbers, relative to the streams
WRONG = 0.05  # of the streams unexplained: these are not the maps


class Applied(NamedTuple):
    """How well the declared maps explain the streams that were passed on, relative to them."""

    straight: float
    transposed: float
    rounding: float

    @property
    def finding(self) -> str | None:
        """Return the guard's reason, if there is one: h_res_transposed or maps_unexplained."""
        if self.straight > max(CLEARLY * self.transposed, min(FINE * self.rounding, WRONG)):
            return "h_res_transposed"
        return "maps_unexplained" if self.straight > WRONG else None


def linked(watch: Watch) -> list[Sighting]:
    """Return the sightings, with what a connection passed on taken from the next one where it was not seen."""
    found = watch.sightings
    reads = [each.before for each in found[1:]] + [watch.last]
    for each, read in zip(found, reads, strict=True):
        if each.after is None and each.before is not None and read is not None:
            each.after = read if read.shape == each.before.shape else None
    return found


def interrupted(sightings: list[Sighting]) -> bool:
    """Say whether some connection was given other streams than the one before it passed on."""
    return any(
        one.after is not None and following.before is not None and _apart(one.after, following.before)
        for one, following in pairwise(sightings)
    )


def _apart(passed: Tensor, given: Tensor) -> bool:
    if passed.shape != given.shape:
        return True
    passed, given = wide(passed), wide(given)
    return bool((passed - given).norm() > WRONG * passed.norm())


def _check_alike(sightings: list[Sighting]) -> None:
    """Raise UserError unless all are of as many tokens, and no connection has fewer streams than the one before."""
    tokens = {each.maps.read.shape[-1] for each in sightings}
    streams = [len(each.maps.read) for each in sightings]
    if len(tokens) > 1 or streams != sorted(streams):
        several = f"{sorted(tokens)} tokens" if len(tokens) > 1 else f"{sorted({*streams})} streams"
        raise UserError(
            f"model: in one step its connections were given {several}, so it has several sets of streams; watch "
            "each by itself, for example GainMonitor(model.encoder, ...)"
        )


def applied(sightings: list[Sighting]) -> Applied | None:
    """Compare maps and streams; None where no connection shows both, or where all streams are 0."""
    straight, transposed, size, rounding = 0.0, 0.0, 0.0, 0.0
    for each in sightings:
        if each.before is None or each.after is None:
            continue
        streams, after = (wide(x[:ENOUGH]) for x in (each.before, each.after))
        mix, write = (x[:ENOUGH].to(streams) for x in (each.maps.mix.permute(2, 0, 1), each.maps.write.T))
        straight += _off(mix, write, streams, after)
        transposed += _off(mix.mT, write, streams, after)
        size += after.square().sum().item()
        rounding = max(rounding, torch.finfo(each.after.dtype).eps)
    if not size or not rounding:
        return None
    return Applied((straight / size) ** 0.5, (transposed / size) ** 0.5, rounding)


def _off(mix: Tensor, write: Tensor, streams: Tensor, after: Tensor) -> float:
    """Return the square of X' - H_res X off the direction of H_post."""
    rest = after - mix @ streams
    return (rest - write[..., None] * _written(write, rest)[:, None]).square().sum().item()


def _written(write: Tensor, rest: Tensor) -> Tensor:
    """Return y (K, C), of which `rest` (K, n, C) is H_post^T y."""
    return (write[..., None] * rest).sum(1) / write.square().sum(1, keepdim=True).clamp_min(1e-30)


@torch.no_grad()
def seen_by(watch: Watch) -> tuple[Seen, Applied | None]:
    """Make what rows are made of; of an H_res used transposed, the transpose."""
    sightings = linked(watch)
    _check_alike(sightings)
    how = applied(sightings)
    if how is not None and how.finding == "h_res_transposed":
        for each in sightings:
            each.maps = each.maps._replace(mix=each.maps.mix.transpose(0, 1))
    unknown = torch.tensor(torch.nan)
    slopes = [unknown if each.slope is None else each.slope.cpu() for each in sightings]
    seen = Seen(
        maps=[each.maps for each in sightings],
        slope=slopes if any(each.slope is not None for each in sightings) else [],
        detached=any(each.detached for each in sightings),
    )
    shown = [(each.maps, each.before, each.after) for each in sightings if each.before is not None]
    streams = [(maps, wide(before), wide(after)) for maps, before, after in shown if after is not None]
    if len(streams) < len(sightings):
        return seen, how
    _add_streams(seen, streams)
    last, readout = watch.last, watch.readout
    if last is None or readout is None:
        last = streams[-1][2]
        readout = last.new_ones(last.shape[1], 1)  # the sum, or the mean: to a norm they are one
    seen.readout = readout.to(sightings[-1].maps.read)
    seen.inputs.append(read_rms(seen.readout, wide(last)))
    return seen, how


def _add_streams(seen: Seen, streams: list[tuple[Maps, Tensor, Tensor]]) -> None:
    """Add what the maps of each connection, and the streams before and after it, show."""
    _, first, _ = streams[0]
    # Copies of the embedding, scaled or not, are so many times their mean.
    mean = first.mean(1)
    seen.start = ((first * mean[:, None]).sum(2) / mean.square().sum(1, keepdim=True).clamp_min(1e-30)).T
    seen.outputs.append(centred_rms(mean))
    seen.amax.append(first.abs().amax())
    for maps, before, after in streams:
        seen.amax.append(after.abs().amax())
        seen.spread.append(spread(after))
        seen.inputs.append(read_rms(maps.read.to(before), before))
        rest = after - maps.mix.permute(2, 0, 1).to(before) @ before
        seen.outputs.append(centred_rms(_written(maps.write.T.to(before), rest)))
