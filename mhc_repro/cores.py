"""How many cores this process may use: fewer than there are under taskset, in a container, in a job of Slurm."""

import os
from math import ceil
from pathlib import Path

# Of a container: microseconds of all cores together, in each period of so many
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Count the cores that this process may run on; 1 where nobody can say."""
    # Absent from macOS and Windows, which have no such limit.
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(found, _quota(found), _asked(found))


def _quota(found: int) -> int:
    """Return the cores that a container may keep busy, though it runs on all of them; `found` without a limit."""
    try:
        quota, period = map(int, QUOTA.read_text().split())
    except (OSError, ValueError):  # "max": no limit
        return found
    return ceil(quota / period)


def _asked(found: int) -> int:
    """Return the cores that a job of Slurm's asked for, which holds it to them only where it was set up to."""
    try:
        asked = int(os.environ["SLURM_CPUS_PER_TASK"])
    except (KeyError, ValueError):
        return found
    return asked if asked > 0 else found
