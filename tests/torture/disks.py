"""Disks that are full from some call on: told in one line, and with room the run goes on as if undisturbed."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from faults import Fault
from mhc_repro.command_line.entry import MISTAKE
from outcomes import HELD, TOLD, TRACEBACK, WRONG, Ending, Task
from victims import Victim


def tasks(folder: Path, wholes: dict[str, Victim], count: int, draw: random.Random) -> list[Task]:
    """Plan `count` full disks, at as many calls of a run."""
    places = [(name, at) for name in ("mhc", "diverges") for at in range(wholes[name].passed)]
    chosen = draw.sample(places, min(count, len(places)))
    return [Task("full disks", fill, (folder, wholes[name], at)) for name, at in chosen]


def fill(folder: Path, whole: Victim, at: int) -> Iterator[Ending]:
    """Train a run on a disk that is full from a call on, then with room to its end."""
    victim = Victim(folder / f"full-{os.getpid()}", whole.name)
    code, said = victim.train(Fault("full", at)), victim.lines()
    errors = [line for line in said if line.startswith("error: ")]
    if any("Traceback" in line for line in said):
        yield Ending(TRACEBACK, f"{whole.name} at {at}: {said}")
    elif code and (code != MISTAKE or len(errors) != 1 or "No space left" not in errors[0]):
        yield Ending(WRONG, f"{whole.name} at {at}: exit {code}, {said}")
    elif why := victim.unreadable() or (victim.train() and "not gone on with") or victim.differs(whole):
        yield Ending(WRONG, f"{whole.name} at {at}: {why}")
    else:
        yield Ending(TOLD if code else HELD)
        victim.remove()
