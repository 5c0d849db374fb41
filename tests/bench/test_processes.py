"""A process of one's own: its environment, its memory, and how it may end."""

import os
from functools import partial

import pytest

from mhc_repro.bench import processes
from mhc_repro.errors import UserError
from mhc_repro.runs import files


def test_it_has_its_own_cache(tmp_path):
    assert processes.apart(partial(os.getenv, processes.KERNELS), str(tmp_path)) == str(tmp_path)
    assert os.getenv(processes.KERNELS) != str(tmp_path)


def test_its_memory_is_its_own():
    before = processes.apart(processes.peak_memory)
    ballast = bytearray(300 << 20)
    ballast[::4096] = b"x" * len(range(0, len(ballast), 4096))
    assert processes.apart(processes.peak_memory) < before + (100 << 20) < processes.peak_memory()


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (os.abort, UserError, "killed by signal 6.*data.batch=8"),
        (partial(exec, "raise SystemExit(130)"), KeyboardInterrupt, None),
        (partial(exec, "raise SystemExit(1)"), RuntimeError, "above"),
    ],
)
def test_how_it_may_end(call, error, said):
    with pytest.raises(error, match=said):
        processes.apart(call)


def test_a_mistake_in_it_arrives_as_such(tmp_path):
    (tmp_path / "status.json").write_text("[]")
    with pytest.raises(UserError, match="expected object, got array"):
        processes.apart(partial(files.read_json, tmp_path / "status.json"))
