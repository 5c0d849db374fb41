"""How many cores this process may use: fewer than there are under taskset, in a container, in a job of Slurm."""

import os


def cores() -> int:
    """Count the cores that this process may run on; 1 where nobody can say."""
    # Absent from macOS and Windows, which have no such limit.
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Slurm holds a job to its cores only where it was set up to.
    return min(found, int(os.environ.get("SLURM_CPUS_PER_TASK", found)))
