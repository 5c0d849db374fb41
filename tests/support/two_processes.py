"""torchrun as one types it, with two processes on this machine, and what makes two runs the same one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mhc_repro.runs import Run
from mhc_repro.schema import UNITS

SUPPORT = Path(__file__).resolve().parent


def torchrun(script: str, *argv: str, **variables: str) -> tuple[int, str]:
    """Let two processes run a script of this folder; return the exit code and all that was said."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join(map(str, (SUPPORT.parents[1], SUPPORT)))
    with subprocess.Popen(
        [*launch, str(SUPPORT / script), *argv],
        env=os.environ | {"PYTHONPATH": path} | variables,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=1200)
        except subprocess.TimeoutExpired:
            process.terminate()  # which ends the two, too
            raise
    return process.returncode, said


def wait_until(
    holds: Callable[[], bool], who: subprocess.Popen | None = None, seconds: float = 1200.0
) -> None:
    """Wait for something that another process does, while that one is there."""
    limit = time.monotonic() + seconds
    while not holds():
        assert who is None or who.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.02)


def assert_same(one: Run, other: Run, exact: bool) -> None:
    """Compare all tables of two runs but for the clock: to the last bit, or to 1e-5."""
    for name in UNITS:
        left, right = getattr(one, name), getattr(other, name)
        assert list(left) == list(right)
        for column in left:
            if not column.startswith("time/"):
                a, b = ([np.ravel(value) for value in table[column]] for table in (left, right))
                assert list(map(len, a)) == list(map(len, b))
                a, b = np.concatenate(a), np.concatenate(b)
                np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else 1e-5, err_msg=column)
