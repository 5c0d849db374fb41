"""What a process of one's own gives and used: a call made in a fresh interpreter, its peak memory.

`python -m mhc_repro.bench.processes FILE` is the other end of `apart`. No torch here: a call brings what
it needs.
"""

import os
import pickle
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mhc_repro.cache import KERNELS
from mhc_repro.errors import UserError

T = TypeVar("T")


def peak_memory() -> int:
    """Return the most memory, in bytes, that was ever resident in this process."""
    try:
        # Not ru_maxrss where there is a choice: through fork and exec it starts at the parent's peak.
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def apart(call: Callable[[], T], cache: str | None = None) -> T:
    """Make a call in a fresh process, with the compiler's cache in the folder `cache`.

    Call and result are pickled. Raises UserError when the process was killed, and what it raised itself
    of that kind.
    """
    with tempfile.TemporaryDirectory(prefix="mhc-bench-") as folder:
        path = Path(folder) / "call"
        path.write_bytes(pickle.dumps(call))
        command = [sys.executable, "-m", "mhc_repro.bench.processes", str(path)]
        code = subprocess.run(command, env=os.environ | ({KERNELS: cache} if cache else {})).returncode
        result: Any = pickle.loads(path.read_bytes()) if code == 0 else None
    if code == 130:
        raise KeyboardInterrupt
    if code < 0:
        raise UserError(
            f"a process of the bench was killed by signal {-code}, most likely for want of memory; "
            "measure something smaller, for example data.batch=8"
        )
    if code:
        raise RuntimeError("a process of the bench failed; what it said is above")
    if isinstance(result, UserError):
        raise result
    return result


def main(path: Path) -> int:
    """Make the call pickled in `path` and put its result there; return the exit code."""
    try:
        result = pickle.loads(path.read_bytes())()
    except UserError as error:
        result = error
    except KeyboardInterrupt:
        return 130
    path.write_bytes(pickle.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
