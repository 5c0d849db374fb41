"""How a try may end, and tries that are made one after the other."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mhc_repro.evidence.torture import ENDINGS, MUST_NOT_BE

HELD, TOLD, WRONG, TRACEBACK = ENDINGS


class Ending(NamedTuple):
    """How one try ended, and why where it must not end so."""

    ending: str
    why: str = ""

    @property
    def fails(self) -> bool:
        """Say whether it must not be."""
        return self.ending in MUST_NOT_BE


@dataclass(frozen=True)
class Task:
    """Some tries, made in one process."""

    part: str
    tries: Callable[..., Iterable[Ending]]
    arguments: tuple[Any, ...]

    def run(self) -> list[Ending]:
        """Make the tries; an exception that reaches the harness counts as a traceback."""
        try:
            return list(self.tries(*self.arguments))
        except Exception:
            return [Ending(TRACEBACK, traceback.format_exc())]


def shares(count: int, each: int) -> list[int]:
    """Share `count` tries among tasks of `each` or fewer."""
    return [min(each, count - done) for done in range(0, count, each)]


def last(lines: Sequence[str]) -> str:
    """Return the last line, empty where there is none."""
    return lines[-1] if lines else ""
