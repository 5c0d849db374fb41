"""Command lines with something wrong in them: refused in one line that names the setting, or trained."""

import os
import random
import resource
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import wrong_overrides
from outcomes import HELD, TOLD, TRACEBACK, WRONG, Ending, Task, shares

EACH = 20  # tries of one task


def tasks(folder: Path, count: int, draw: random.Random) -> list[Task]:
    """Plan `count` command lines."""
    return [
        Task("command lines", type_in, (folder, draw.randrange(2**32), share))
        for share in shares(count, EACH)
    ]


def type_in(folder: Path, seed: int, count: int) -> Iterator[Ending]:
    """Type command lines, and train the right ones for two steps."""
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    desk = folder / f"typed-{os.getpid()}"
    desk.mkdir(exist_ok=True)
    with wrong_overrides.workshop(desk):
        for argv, key in islice(wrong_overrides.command_lines(seed), count):
            ending = wrong_overrides.outcome(argv, key)
            if ending in ("refused", "trained"):
                yield Ending(TOLD if ending == "refused" else HELD)
            else:
                kind = TRACEBACK if "Traceback" in ending or "Error: " in ending else WRONG
                yield Ending(kind, f"{' '.join(argv[len(wrong_overrides.TINY) :])} -> {ending}")
