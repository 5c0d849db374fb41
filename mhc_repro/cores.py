"""How many cores this process may use: fewer than the machine has, under taskset or in a container."""

import os


def cores() -> int:
    """Count the cores that this process may run on; 1 where nobody can say."""
    # Absent from macOS and Windows, which have no such limit.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
