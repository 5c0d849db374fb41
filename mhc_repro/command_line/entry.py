"""What every command does alike: it reads its arguments, and says a mistake of the user's in one line."""

import argparse
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from mhc_repro.command_line import terminal
from mhc_repro.errors import UserError

DAMAGED, MISTAKE, INTERRUPTED = 1, 2, 130

Faults = dict[Path, UserError]  # the runs that could not be read, and why


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as everywhere else, and to whom an empty argument is none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, given_text)

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def given_text(text: str) -> str:
    """Read an argument of no other type."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def count(text: str) -> int:
    """Read an argument that is a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def exit_code(command: Callable[[], int], unread: int = 0) -> int:
    """Run a command; return its exit code, 2 after a mistake of the user's and 130 after Ctrl-C.

    `unread`: the code where nobody reads what it prints any more.
    """
    terminal.mend()
    try:
        code = command()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {shortened(str(error))}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # piped into head
        terminal.silence(sys.stdout.fileno())
        return unread
    except OSError as error:  # a folder that cannot be written, a full disk
        said = f"{error.strerror or error}: {error.filename or 'no file named'}"
        print(f"error: {shortened(said)}", file=sys.stderr)
        with suppress(OSError):
            terminal.silence(sys.stdout.fileno())  # it may be what is full
        return MISTAKE


def tell(faults: Faults) -> int:
    """Say in a line each which runs were left out; return the exit code of a command that did without them."""
    for fault in faults.values():
        print(f"skipped {fault}", file=sys.stderr)
    return DAMAGED if faults else 0


def shortened(line: str) -> str:
    """Return a line with the middle left out of every word that is longer than a line."""
    return re.sub(r"(\S{60})\S{60,}(\S{20})", r"\1 ... \2", line)
