"""GainMonitor: the gains of a model of your own, during its own training, as a run that this suite can read.

Step s is the state after s updates. The maps of step s are those that the forward of the next batch applies, so
they are seen in that forward and cost no other. With a `probe` batch, or of a compiled model, they are seen in a
forward of their own instead, in eval mode and without gradients. Rows are written when maps were seen, so that no
other step waits for a disk, or for a GPU.
"""

import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from mhc_repro.connections.base import Maps
from mhc_repro.errors import UserError
from mhc_repro.library.adapters import Watch
from mhc_repro.library.adapters.given import MapsOf
from mhc_repro.library.finding import Found, find, inner, named
from mhc_repro.library.looking import Looks
from mhc_repro.library.numbers import gradient_norms, kept, plain
from mhc_repro.library.record import Record
from mhc_repro.library.sighted import Applied, interrupted, seen_by
from mhc_repro.library.wrapping import check_count
from mhc_repro.measurement.seen import Seen, measured
from mhc_repro.reasons import INTERRUPTED, REASONS
from mhc_repro.schema import Row

EVERY = 20  # steps between two looks, unless it is said
OWN = ("step", "time/step", "time/probe")  # columns
FILLED = ("gain/", "kernel/", "streams/", "jacobian/")  # how others begin that a probe fills
APART = 1e-3  # of the largest weight: by more, two streams' weights differ by no rounding


class GainMonitor:
    """Records gains, maps, kernel, spread and verdicts of the hyper-connections in `model`.

        with GainMonitor(model, every=20, out="runs/mine") as monitor:
            for x, y in batches:
                loss = train_on(x, y)       # forward, backward, update: as ever
                monitor.step(loss)

    `out` is the folder of a study; the run in it is read by `mhc-repro ls/show/compare --root runs`, by
    experiments/report.py and by the notebooks. `name` names the arm (by default the adapter's), `seed` and
    `settings` (plain values) tell runs apart. `steps` is how many there will be, if that is known. `adapters` maps
    a class, or a pattern of module names, to a function (module, inputs, outputs) -> (H_pre (..., n), H_post
    (..., n), H_res (..., n, n)), row i of H_res the weights of output stream i. Of a batch it sees `tokens` tokens,
    by default a quarter of them, 64 at least and 256 at most.
    `probe`, a tensor, tuple or dict of the model's inputs, is measured on instead of the training's own batches.
    `jacobian`, two names of modules, measures at the end how far a change of the first one's output moves the
    second's (`jacobian/random` and `jacobian/worst`), which costs 40 forwards of one batch, once.
    `start` goes on after that many steps of an interrupted run; `overwrite` replaces a finished one.

    It changes no bit of the training. Under DistributedDataParallel rank 0 measures its part of a batch and writes.
    Raises UserError where nothing is found to measure, or where a run is in the way.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int = EVERY,
        out: str | os.PathLike[str] = "runs/mine",
        *,
        name: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        settings: Mapping[str, Any] | None = None,
        adapters: Mapping[type | str, MapsOf] | None = None,
        probe: Any = None,
        tokens: int | None = None,
        jacobian: tuple[str, str] | None = None,
        start: int = 0,
        overwrite: bool = False,
    ) -> None:
        check_count("every", every, 1)
        for key, value in {"seed": seed, "start": start, "steps": steps or 0}.items():
            check_count(key, value, 0)
        if tokens is not None:
            check_count("tokens", tokens, 1)
        if steps is not None and start > steps:
            raise UserError(f"start={start}: must be steps={steps} or less")
        self.every, self.start, self.done = every, start, start
        self.outer, self.model = model, inner(model)
        self.found: list[Found] = find(self.model, adapters or {})
        self.looks = Looks(model, self.found, tokens, self._digest)
        self.probe = self.looks.inputs = probe
        if jacobian is not None and (isinstance(jacobian, str) or len(jacobian) != 2):
            raise UserError(f"jacobian={jacobian!r}: must be two names of modules, first and last")
        self.ends = jacobian and [named(self.model, each) for each in jacobian]
        self.writes = not _other_rank()
        arm = name or self.found[0].arm
        self.record = Record(out, arm, seed, steps, every, start, overwrite, settings or {})
        self.rows: list[Row] = [{"step": start}]  # to be written; the last may wait for its maps
        self.applied: Applied | None = None
        self._unseen = False  # a step whose forward was not seen, which has been said
        self._seen: tuple[Seen, tuple[int, ...]] | None = None
        self._hooks = ExitStack()
        self._last = time.perf_counter()
        if self.writes and probe is None:
            if getattr(model, "_compiled_call_impl", None) is not None:
                raise UserError(
                    "model.compile() compiles hooks with the model; use torch.compile(model), or give a probe batch"
                )
            self._hooks = self.looks.listen(lambda: self._seen is None and self._due(self.done))
        elif self.writes:
            self.looks.apart(probe)
            self._take(self.rows[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", repr(error))

    @property
    def path(self) -> Any:
        """Return the run's folder, None before its first row."""
        return self.record.path

    def step(self, loss: Any = None, lr: float | None = None, **metrics: Any) -> None:
        """Count one update, and write what was seen: call it once a step, behind the optimiser's.

        `loss` in nats a symbol, as a number or tensor; `metrics` are further columns, such as **{"loss/val": 1.2}.
        Gradients are normed every `every` steps as they are then, behind a clip if there is one: give its norm as
        **{"grad/norm": clip_grad_norm_(...)} and that is kept. UserError for a value that is no number, for a
        column that the monitor fills, and where no hyper-connection was seen.
        """
        self.done += 1
        if not self.writes or self.record.closed:
            return
        now = time.perf_counter()
        row: Row = {"step": self.done}
        for key, value in {"loss/train": loss, "lr": lr, **metrics}.items():
            if key in OWN:
                raise UserError(f"{key}={value}: the monitor counts and times the steps; see start=")
            if key.startswith(FILLED):
                raise UserError(f"{key}={value}: the monitor measures this; call yours something else")
            row[key] = kept(key, value)
        row["time/step"] = now - self._last - self.looks.seconds
        if self._due(self.done - 1):
            row = gradient_norms(self.model, self.found) | row
            self._take(self.rows[-1])
            self._flush()
        self.rows.append(row)
        if self.probe is not None and self._due(self.done):
            self.looks.apart(self.probe)
            self._take(row)
        self.looks.seconds, self._last = 0.0, time.perf_counter()

    def close(self, status: str = "finished", message: str = "") -> None:
        """End the run: write its last row, its verdicts and its tables; say what the guards found."""
        self._hooks.close()
        if not self.writes or self.record.closed:
            return
        if self.probe is not None and not self._due(self.done) and status == "finished":
            self.looks.apart(self.probe)
            self._take(self.rows[-1])
        fault: Exception | None = None
        if self.ends and self.looks.inputs is not None and status == "finished":
            try:
                random, worst = self.looks.between(*self.ends)
                self.rows[-1] |= {"jacobian/random": random, "jacobian/worst": worst}
            except Exception as error:  # for want of memory, perhaps
                fault = error  # told when the run is safe
        self._flush()
        said = {code for code in REASONS if self.record.nature.get(code)}  # as it was found
        for code in self.record.close(status, message):
            if code not in said:
                self._tell(code)
        if fault is not None:
            raise fault

    def say(self, text: str) -> None:
        """Say something to the user; a notebook may put another function here."""
        print(f"GainMonitor: {text}", file=sys.stderr)

    def _tell(self, code: str, how: str = "") -> None:
        reason = REASONS[code]
        self.say(f"{code}: {reason.short}: {reason.meaning}" + (f" ({how} of the streams)" if how else ""))

    def _due(self, step: int) -> bool:
        return step % self.every == 0 or step == self.start

    def _digest(self, watch: Watch) -> None:
        """Keep what was seen of a forward, and tell what is wrong with it."""
        if not watch.sightings or not watch.sightings[0].maps.read.numel():
            return  # nothing, or a batch without tokens
        seen, how = seen_by(watch)
        given = self.looks.shape
        same = math.prod(given) == math.prod(watch.shape)  # streams may be folded into the batch
        self._seen = seen, given if same else watch.shape
        self.record.knows("doubly_stochastic", any(each.doubly_stochastic for each in watch.sightings))
        alike = [each.exchangeable for each in watch.sightings]
        if None not in alike:
            self.record.knows("exchangeable", all(alike))
        elif self.done == 0 and any(map(_told_apart, seen.maps)):
            self.record.knows("exchangeable", False)
        if how is not None and how.finding:
            self.record.knows(how.finding, True)
            if self.applied is None or self.applied.finding != how.finding:
                self._tell(how.finding, f"off by {how.straight:.1e}, transposed by {how.transposed:.1e}")
        self.applied = how or self.applied
        if interrupted(watch.sightings) and not self.record.nature.get(INTERRUPTED):
            self.record.knows(INTERRUPTED, True)
            self._tell(INTERRUPTED)

    def _take(self, row: Row) -> None:
        """Put what was seen into the run, under the step of `row`."""
        if self._seen is None:
            if self.record.path is None:
                raise UserError(
                    "no hyper-connection was seen in this step's forward: the monitor looks at calls of the model "
                    "it was given, in train mode and with gradients; or give it a probe batch"
                )
            if not self._unseen:
                self._unseen = True
                how = "in eval mode, or without gradients or tokens"
                self.say(f"nothing was seen for step {row['step']}: the model ran {how}")
            return
        started = time.perf_counter()
        (seen, shape), self._seen = self._seen, None
        if lacks := self.record.open(self.outer, self.model, seen, shape, self.found):
            self.say(lacks)
        made = measured(seen, row["step"], self.record.kept(seen.maps[0].mix.shape[-1]))
        self.record.add(made)
        row |= made.metrics | {"time/probe": self.looks.seconds + time.perf_counter() - started}

    def _flush(self) -> None:
        rows = [{key: plain(value) for key, value in row.items() if value is not None} for row in self.rows]
        self.rows = []
        self.record.write(rows)
        for row in rows:
            if not math.isfinite(row.get("loss/train", 0.0)):
                self.record.diverged(f"loss/train is {row['loss/train']} at step {row['step']}")


def _told_apart(maps: Maps) -> bool:
    """Say whether streams are read or written by unlike weights, so that more than rounding separates them."""
    return any(bool(((each.amax(0) - each.amin(0)) > APART * each.abs().amax()).any()) for each in maps[:2])


def _other_rank() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_rank() != 0
