"""Faults between this process and its disk, by `faults.c`, a library that is loaded before libc."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mhc_repro.errors import UserError

SOURCE = Path(__file__).with_name("faults.c")
KINDS = ("kill", "tear", "full")  # in the order of faults.c
LOADED = "LD_PRELOAD"


class Fault(NamedTuple):
    """What happens at the `at`-th call that changes a file; `tear` counts writes, and dies half-way through one."""

    kind: str
    at: int


def load() -> None:
    """Start this command anew, if need be, as a process in which faults can be armed; UserError where none can."""
    if hasattr(ctypes.CDLL(None), "torture_arm"):
        shutil.rmtree(Path(os.environ.pop(LOADED)).parent)  # not for the processes that this one starts
        return
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    library = folder / "faults.so"
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder)
        raise UserError(f"a C compiler on Linux is needed, for faults of the disk: {error}") from None
    os.execve(sys.executable, sys.orig_argv, {**os.environ, LOADED: str(library)})


def arm(fault: Fault) -> None:
    """Let it happen in this process."""
    ctypes.CDLL(None).torture_arm(KINDS.index(fault.kind), ctypes.c_long(fault.at))


def passed() -> int:
    """Count the calls that changed a file since something was armed."""
    return int(ctypes.CDLL(None).torture_passed())
