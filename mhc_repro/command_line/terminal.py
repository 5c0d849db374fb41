"""What a terminal lacks costs decoration: a sign that it has not, a stream that was closed, a disk that is full."""

import io
import os
import sys
from contextlib import suppress

STREAMS = ("stdin", "stdout", "stderr")


def mend() -> None:
    """Show otherwise what an encoding cannot show, and print to nowhere where a stream was closed."""
    for number, name in enumerate(STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            _occupy(number)
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
        elif number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence(number: int) -> None:
    """Print to nowhere from now on what cannot be printed: Python would fail at it again as it ends."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)
    if null != number:
        os.close(null)


def _occupy(number: int) -> None:
    """Else the next file that is opened gets the number, and what a child process prints."""
    with suppress(OSError):
        os.fstat(number)
        return
    silence(number)
