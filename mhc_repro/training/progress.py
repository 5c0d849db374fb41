"""What a run says while it trains: a bar with ETA on a terminal, plain lines elsewhere and in train.log."""

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mhc_repro.words import duration

LINE_SECONDS = 20.0  # between two plain lines


class _Unread(Console):
    def on_broken_pipe(self) -> None:
        self.quiet = True  # whoever read this has gone; a run goes on


class Reporter:
    """Reports one run; `bar`, `lines`, or `auto` to choose by the terminal."""

    def __init__(self, mode: str, name: str, steps: int, log: Path) -> None:
        self.name, self.steps, self.log = name, steps, log
        self.console = _Unread(stderr=True, highlight=False)
        self.bar: Progress | None = None
        if mode == "bar" or (mode == "auto" and sys.stderr.isatty()):
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),  # all of it fits in 80 columns
                MofNCompleteColumn(),
                TextColumn("{task.fields[values]}"),
                TextColumn("eta"),
                TimeRemainingColumn(compact=True),
                console=self.console,
            )
            self.task = self.bar.add_task(name.rpartition("-")[0], total=steps, values="")
        self.started = self.said = time.monotonic()
        self.first: int | None = None

    def showing(self) -> AbstractContextManager[Any]:
        """Show the bar, if there is one, while a block runs."""
        return self.bar or nullcontext()

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one, and keep it in train.log."""
        if self.bar:
            self.bar.console.print(text, markup=False, soft_wrap=True)
        else:
            self.console.print(f"{self.name}  {text}", markup=False, soft_wrap=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def step(self, step: int, row: dict[str, Any]) -> None:
        """Show how far the run is: loss, held-out loss, gradient norm, speed, ETA."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = step, now
        grad = f"grad {row['grad/norm']:.2f}" if "grad/norm" in row else "no update"
        values = f"loss {row['loss/train']:.3f}  {grad}  {row['time/step']:.2f} s/step"
        if self.bar:
            self.bar.update(self.task, completed=step, values=values)
        left = (now - self.started) / max(1, step - self.first) * (self.steps - step)
        eta = "" if self.bar or step == self.first else f"  eta {duration(left)}"
        if "loss/val" in row:
            self.say(f"step {step}/{self.steps}  {values}  val {held_out(row)}{eta}")
            self.said = now
        elif eta and now - self.said >= LINE_SECONDS:
            self.say(f"step {step}/{self.steps}  {values}{eta}")
            self.said = now


def printed_into() -> str | None:
    """Return the file that keeps what this process says, as of a scheduler's job; null where there is none."""
    try:
        path = os.readlink("/proc/self/fd/2")
    except OSError:
        return None
    return path if os.path.isfile(path) else None


def held_out(row: dict[str, Any]) -> str:
    """Word the validation loss: in bits per character, per byte of a text in tokens, else in nats a token."""
    for key, unit in (("bpc/val", "bpc"), ("bpb/val", "bits a byte")):
        if key in row:
            return f"{row[key]:.3f} {unit}"
    return f"{row['loss/val']:.3f} nats a token"
