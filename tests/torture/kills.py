"""Runs that are killed and gone on with, again and again: each ends as the undisturbed run."""

import os
import random
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from faults import Fault
from outcomes import HELD, TRACEBACK, WRONG, Ending, Task, shares
from victims import NEVER, Victim

EACH = 16  # kills of one task
KILLED = -signal.SIGKILL


def tasks(folder: Path, wholes: dict[str, Victim], count: int, draw: random.Random) -> list[Task]:
    """Plan `count` kills: half before each call in turn, if there are so many, the rest wherever chance has it."""
    single = []
    for name in ("mhc", "diverges"):
        writes = Victim(folder / "writes", name)
        writes.train(NEVER._replace(kind="tear"))
        calls = {"kill": wholes[name].passed, "tear": writes.passed}
        single += [(name, Fault(kind, at)) for kind, number in calls.items() for at in range(number)]
    chosen = draw.sample(single, min(len(single), count // 2))
    once = [Task("kills", kill_once, (folder, wholes[name], fault)) for name, fault in chosen]
    return once + [
        Task("kills", kill_often, (folder, wholes[draw.choice(("mhc", "baseline"))], draw.random(), share))
        for share in shares(count - len(once), EACH)
    ]


def kill_once(folder: Path, whole: Victim, fault: Fault) -> Iterator[Ending]:
    """Kill a run at a call, and go on with it."""
    return _kill(folder, whole, [fault])


def kill_often(folder: Path, whole: Victim, seed: float, count: int) -> Iterator[Ending]:
    """Kill runs so many times, at calls and moments that are drawn, and go on with each to its end."""
    draw = random.Random(seed)

    def blows() -> Iterator[Fault | float]:
        for _ in range(count - killed):
            at = draw.randrange(whole.passed // 2)
            yield draw.choice((Fault("kill", at), Fault("tear", at // 2), draw.uniform(0, whole.seconds)))

    killed = 0
    while killed < count:
        for each in _kill(folder, whole, blows()):
            killed += 1
            yield each


def _kill(folder: Path, whole: Victim, blows: Iterable[Fault | float]) -> Iterator[Ending]:
    """Train a run under blows until it has ended; yield an ending for each that killed it."""
    victim, hits = Victim(folder / f"killed-{os.getpid()}", whole.name), []
    for blow in blows:
        if victim.train(blow) != KILLED:
            break
        hits.append(blow)
        why = victim.unreadable()
        yield Ending(WRONG, f"{blow}: {why}") if why else Ending(HELD)
    code, traced = victim.train(), "Traceback" in victim.said.read_text()
    if why := victim.differs(whole) or (f"exit {code}" if code else ""):
        yield Ending(TRACEBACK if traced else WRONG, f"{whole.name} after {hits}: {why}")
    else:
        victim.remove()
