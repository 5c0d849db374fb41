"""One process's work on a run: every step, what is written of it, and how it ends."""

import math
import time
import traceback
from contextlib import closing, suppress
from typing import Any

import torch

from mhc_repro import cache, world
from mhc_repro.config import Config
from mhc_repro.connections import KINDS
from mhc_repro.errors import UserError
from mhc_repro.runs import locks, manifest
from mhc_repro.runs.directory import RunDirectory
from mhc_repro.schema import UNITS, Row
from mhc_repro.training import compiler, kernels, memory, runtime, stops, together
from mhc_repro.training.checkpoint import Checkpoints, checkpoint_folder
from mhc_repro.training.progress import Reporter, printed_into
from mhc_repro.training.resume import past
from mhc_repro.training.tracking import Tracker
from mhc_repro.training.trainer import Trainer
from mhc_repro.words import duration, one_line, screenful

STOPPED = "stopped by a signal"
LOST = "another of its processes died"


class Session:
    """One process's work on one run, which it holds locked."""

    def __init__(self, config: Config, run: RunDirectory) -> None:
        self.config, self.run = config, run
        folder = checkpoint_folder(config, run)
        self.checkpoints = Checkpoints(folder, config.runtime.checkpoint_seconds)
        cache.make(folder)  # not when the first checkpoint is due, after a minute
        self.tables = {name: run.table(name) for name in UNITS}
        before = past(run, self.checkpoints, self.tables)  # not kept: its state is as large as the training's
        self.recorded, self.wall_before, self.warnings = before.manifest, before.wall, before.warnings
        if not run.guarded:
            self.warnings.append(f"{run.path}: {locks.MISSING}")
        device, self.fingerprint = runtime.set_up(config.runtime, self.recorded.get("fingerprint", {}))
        self.exact = before.goes_on_exactly(run, self.fingerprint, config.runtime, device)
        with memory.enough(config, device):
            self.trainer = Trainer(config, device)
        self.kind = KINDS[config.connection.kind]
        self.compiles = self.fingerprint["compile"] and self.kind.compilable
        if self.fingerprint["compile"]:
            self.trainer.compile()
        if before.state:
            self.trainer.load(before.state)
        together.tell(together.Start(self.fingerprint, before.state))
        self.reporter = Reporter(config.runtime.progress, run.run_id, config.train.steps, run.log)
        self.started = time.monotonic()

    def go(self) -> str:
        """Train to the end, to a divergence or to a signal; return the status that was written."""
        run, trainer = self.run, self.trainer
        run.write_config(self.config)
        self._write_status("running", message="", log=printed_into())  # before a row goes: see resume
        for table in self.tables.values():
            table.truncate(trainer.done or -1)  # what was measured before the first step is measured again
        run.write_manifest(self._manifest())
        with self.reporter.showing(), stops.taken(stops.say):
            for warning in self.warnings:
                self.reporter.say(f"warning: {warning}")
            if self.kind.compilable:
                self.reporter.say(self._how_connections_run())
            if self.recorded:
                self.reporter.say(f"resuming at step {trainer.done}")
            try:
                tracking = closing(Tracker(self.config, run, trainer.done, self.reporter.say))
                with memory.enough(self.config, trainer.device), tracking as tracker:
                    status = self._train(tracker)
                with suppress(together.Lost):  # nothing is left to be written, and the others may go
                    together.tell(None)
                return status
            except (UserError, OSError, compiler.Failed):  # a full disk takes no status either
                raise
            except together.Lost:
                return self._interrupted(f"{LOST} at step {trainer.done}; saved", "lost", LOST)
            except Exception as error:
                text = screenful(traceback.format_exc())
                self.reporter.say(f"failed at step {trainer.done}: {one_line(repr(error))}\n{text}")
                self._write_status("failed", message=one_line(repr(error)))
                return "failed"

    def _how_connections_run(self) -> str:
        if self.compiles:
            return "compiling the connections: half a minute the first time, then cached"
        why = runtime.why_uncompiled(self.config.runtime, self.trainer.device)
        if self.config.runtime.compile == "off":
            return f"connections run uncompiled, {why}"
        return f"connections run uncompiled, up to 1.6 times as slow on a CPU: {why}"

    def _train(self, tracker: Tracker) -> str:
        trainer, steps = self.trainer, self.config.train.steps
        # Kernels are made anew by a process alone: the others have taken half of the step already.
        compiles_at = trainer.done if self.compiles and world.size() == 1 else None
        if trainer.done == 0:
            row = {"step": 0} | self._measure()
            self.tables["metrics"].append(row)
            tracker.log(row)
        while trainer.done < steps:
            with together.noticing():
                row = self._first_step() if trainer.done == compiles_at else trainer.step()
            if trainer.done == steps:
                self._announce_test(row["time/step"])
            if math.isfinite(row["loss/train"]):
                row |= self._measure()
            self.tables["metrics"].append(row)
            tracker.log(row)
            checked = {k: v for k, v in row.items() if k.startswith(("loss/", "grad/"))}
            broken = [f"{name} is {value}" for name, value in checked.items() if not math.isfinite(value)]
            if broken:
                with suppress(together.Lost), together.noticing():  # a result, whoever is left to hear of it
                    together.end(over=True)
                where = self._broke_at()
                return self._finish("diverged", f"{broken[0]} at step {trainer.done}; {where}", broke=where)
            with together.noticing():
                ends = together.end()
            self.reporter.step(trainer.done, row)
            if ends:
                return self._interrupted(
                    f"interrupted at step {trainer.done} and saved", "interrupted", STOPPED
                )
            if self.checkpoints.due():
                self._save()
        return self._finish("finished", "")

    def _broke_at(self) -> str:
        """Make the last step again to name what broke; a divergence is a result, found or not."""
        try:
            with memory.enough(self.config, self.trainer.device):
                return self.trainer.broke_at() or "nowhere when the step was made again"
        except UserError:
            return "nowhere, for want of memory to make the step again"

    def _first_step(self, is_new: bool = False) -> Row:
        """Make the step that compiles, with new kernels where the kept ones are broken; a stop has nothing to save.

        Raises compiler.Failed where the kernels are new and broken.
        """
        began = time.time()
        try:
            with stops.taken(stops.leave):
                if stops.requested():
                    raise stops.Stopped
                return self.trainer.step()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if stops.requested():  # a Ctrl-C goes to the compiler too
                raise stops.Stopped from None
            if is_new:
                compiler.give_up(self.trainer.device, error)
                raise compiler.Failed from error
            self.reporter.say(f"warning: compiling anew, for a kernel is broken: {compiler.cause(error)}")
        kernels.start_over(began)
        return self._first_step(is_new=True)

    def _announce_test(self, step_seconds: float) -> None:
        config = self.config
        count = config.train.test_windows
        # the forward third of a step for each batch
        seconds = count / config.data.batch * step_seconds / 3
        self.reporter.say(f"measuring on {count:,} test windows, about {duration(seconds)}")

    def _measure(self) -> dict[str, Any]:
        measured = self.trainer.measure()
        for name, rows in measured._asdict().items():
            if name != "metrics" and rows:
                self.tables[name].append(*rows)
        return measured.metrics

    def _interrupted(self, said: str, status: str, message: str) -> str:
        self._save()
        self._write_status("interrupted", message=message)
        self.reporter.say(f"{said}; repeat the command to go on")
        return status

    def _save(self) -> None:
        rows = {name: table.sync() for name, table in self.tables.items()}
        self.checkpoints.save(self.trainer.done, self.trainer.state() | {"rows": rows})
        self._write_status("running")

    def _finish(self, status: str, message: str, broke: str | None = None) -> str:
        if status == "finished":  # a diverged run killed here must find the checkpoint before its last step
            self._save()
        self.run.finish_tables()
        self._write_status(status, message=message, log=None, broke=broke)
        self.reporter.say(f"{status} {message or f'after {self.trainer.done} steps'}")
        self.checkpoints.drop()
        return status

    def _manifest(self) -> dict[str, Any]:
        arm = self.config.connection
        known = {"fingerprint": self.fingerprint, "nature": self.kind.nature(arm)._asdict()}
        session = manifest.session(self.trainer.done)
        if self.recorded:
            made = manifest.goes_on(self.recorded, session)
            if self.recorded.get("exact", True) and not made["exact"]:
                self.warnings.append("other code than in the session before: the run is marked as not exact")
            return made | known | {"exact": made["exact"] and self.exact}
        made_of = {"data_sha256": self.trainer.corpus.sha256, "parameters": self.trainer.parameter_counts()}
        return manifest.begun(self.run.run_id, session, **made_of, **known)

    def _write_status(self, status: str, **fields: Any) -> None:
        wall = round(self.wall_before + time.monotonic() - self.started, 1)
        steps, step = self.config.train.steps, self.trainer.done
        self.run.write_status(status=status, step=step, steps=steps, wall_seconds=wall, **fields)
