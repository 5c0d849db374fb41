"""Which of the processes is this that torchrun started for one run? Told by their environment, without torch.

One process alone, rank 0 of 1, is what torchrun did not start.
"""

import os

from mhc_repro.errors import UserError


def size() -> int:
    """Return how many processes train a run together, on all machines."""
    return _told("WORLD_SIZE", 1)


def rank() -> int:
    """Return the number of this process among them; rank 0 measures, writes and speaks."""
    return _told("RANK", 0)


def local_size() -> int:
    """Return how many of them share this machine."""
    return _told("LOCAL_WORLD_SIZE", 1)


def local_rank() -> int:
    """Return the number of this process among those."""
    return _told("LOCAL_RANK", 0)


def _told(name: str, alone: int) -> int:
    # A scheduler may set variables of these names for its own ends.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return alone
    told = os.environ.get(name, "")
    if not told.isdecimal() or int(told) < alone:
        raise UserError(
            f"{name}={told}: torchrun sets it to a whole number; start with torchrun, or unset TORCHELASTIC_RUN_ID"
        )
    return int(told)
