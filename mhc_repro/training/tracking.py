"""A copy of what a run logs for those who watch it elsewhere: TensorBoard or Weights & Biases (`runtime.track`).

The tables stay the record. A sink is told of each row after it was written down, and the first error ends the sink,
never the run.
"""

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from mhc_repro.config import Config
from mhc_repro.runs.directory import RunDirectory
from mhc_repro.runs.identity import resolved
from mhc_repro.schema import Row
from mhc_repro.words import one_line

PROJECT = "mhc-repro"  # of Weights & Biases, unless $WANDB_PROJECT names another
FINISH_SECONDS = 60.0  # to wait, at the end of a run, for what is still on its way to a server


class Sink(Protocol):
    """Where rows go."""

    def log(self, row: Row) -> None:
        """Take the numbers of one step."""

    def close(self) -> None:
        """Write down what is left."""


class Tracker:
    """Passes rows on to the sink that `runtime.track` names, until the sink fails; without one, to nobody."""

    def __init__(self, config: Config, run: RunDirectory, done: int, say: Callable[[str], None]) -> None:
        self.kind, self.say = config.runtime.track, say
        self.sink: Sink | None = None
        if self.kind:
            self.sink = self._guarded(SINKS[self.kind], config, run, done)

    def log(self, row: Row) -> None:
        """Pass a row on."""
        if self.sink:
            self._guarded(self.sink.log, row)

    def close(self) -> None:
        """Tell the sink that nothing more comes."""
        if self.sink:
            self._guarded(self.sink.close)

    def _guarded(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:
            self.sink = None
            reason = one_line(error) or type(error).__name__
            self.say(f"warning: runtime.track={self.kind} ended ({reason}); the run goes on without it")
            return None


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir results/local` shows them."""

    def __init__(self, config: Config, run: RunDirectory, done: int) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        # Not its SummaryWriter: that has a thread, whose death on a full disk leaves the run waiting for it.
        self.event, self.summary = Event, Summary
        folder = run.path / "tensorboard"
        folder.mkdir(exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{time.monotonic_ns()}")
        # Steps that are made again replace those of the session before.
        again = done + 1 if done else 0
        self.writer.write_event(Event(step=again, session_log=SessionLog(status=SessionLog.START)))

    def log(self, row: Row) -> None:
        values = [self.summary.Value(tag=k, simple_value=v) for k, v in row.items() if k != "step"]
        summary = self.summary(value=values)
        self.writer.write_event(self.event(step=row["step"], wall_time=time.time(), summary=summary))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of Weights & Biases, which its own WANDB_... variables steer; WANDB_MODE=offline needs no account."""

    def __init__(self, config: Config, run: RunDirectory, done: int) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=config.study,
            name=run.run_id,
            id=f"{run.run_id}-{run.path_hash}",
            resume="allow",
            dir=run.path,
            config=resolved(config),
            settings=wandb.Settings(console="off", finish_timeout=FINISH_SECONDS),
        )
        # Its own counter refuses steps that are made again.
        self.run.define_metric("*", step_metric="step")

    def log(self, row: Row) -> None:
        self.run.log(row)

    def close(self) -> None:
        self.run.finish()


SINKS: dict[str, Callable[[Config, RunDirectory, int], Sink]] = {"tensorboard": TensorBoard, "wandb": WandB}
