"""A command line in each of several processes that torchrun started: it is said once, by rank 0."""

import io
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

from mhc_repro import world
from mhc_repro.command_line.entry import MISTAKE
from mhc_repro.command_line.sweep import Sweep
from mhc_repro.errors import UserError

GRACE = 5.0  # seconds


def check(sweep: Sweep) -> None:
    """Raise UserError where the runs would be spread over other processes than those that are here."""
    if world.size() > 1 and sweep.launcher != "basic":
        raise UserError(
            f"hydra/launcher={sweep.launcher}: torchrun's {world.size()} processes train one run together; "
            "leave it out, or start without torchrun"
        )


def behind_rank_0(command: Callable[[], int]) -> int:
    """Run a command in another process than rank 0, and return its exit code; a mistake of its alone is told.

    One that all make is told by rank 0, and torchrun ends the others with it before they have waited.
    """
    said = io.StringIO()
    with redirect_stderr(said), redirect_stdout(io.StringIO()):
        code = command()
    if code:
        time.sleep(GRACE)
    if code == MISTAKE:
        print(f"rank {world.rank()}: {said.getvalue()}", end="", file=sys.stderr)
    return code
