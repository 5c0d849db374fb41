"""What every command does alike: it reads its arguments, and says a mistake of the user's in one line."""

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mhc_repro.errors import UserError

MISTAKE, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as everywhere else."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def exit_code(command: Callable[[], int]) -> int:
    """Run a command; return its exit code, 2 after a mistake of the user's and 130 after Ctrl-C."""
    try:
        return command()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # piped into head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"error: {error.strerror or error}: {error.filename or 'no file named'}", file=sys.stderr)
        return MISTAKE


@contextmanager
def stops_passed_on() -> Iterator[None]:
    """While other processes train for this one, have Ctrl-C and SIGTERM reach them, and wait until they saved.

    Where there are none, and at a second signal, what stood before is done.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        children = multiprocessing.active_children()
        for each, handler in before.items():
            signal.signal(each, handler)
        if not children:
            signal.raise_signal(number)
        for child in children:
            if child.pid is not None:
                os.kill(child.pid, number)

    before = {each: signal.signal(each, on_signal) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
