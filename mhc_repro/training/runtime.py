"""Device, threads, memory and random streams: how a run is executed, never what it computes."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

import torch

from mhc_repro.config import RuntimeConfig
from mhc_repro.errors import UserError
from mhc_repro.runs.manifest import fingerprint

CONCURRENT = "MHC_REPRO_CONCURRENT"  # set by experiments/train.py for the processes of a parallel launcher


def set_up(config: RuntimeConfig, recorded: dict[str, Any]) -> tuple[torch.device, dict[str, Any]]:
    """Prepare the process for a run; return its device and its fingerprint.

    Threads that are not given are those of the `recorded` fingerprint of an unfinished run, else all cores.
    """
    device = device_of(config)
    threads = config.threads or recorded.get("threads") or default_threads()
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # older torch asks for it on a GPU
    torch.use_deterministic_algorithms(True)
    # Else every new tensor is first filled with NaN.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    return device, fingerprint(device.type, threads, compiles(config, device), torch.__version__)


def device_of(config: RuntimeConfig) -> torch.device:
    """Choose the device; UserError where one is asked for that is not there."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = config.device.partition(":")
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(number or 0) >= there.get(kind, 1):
        raise UserError(
            f"runtime.device={config.device}: torch sees no such device here; use runtime.device=cpu"
        )
    return torch.device(config.device)


def default_threads() -> int:
    """Share the cores this process may use among the runs that go on side by side."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get(CONCURRENT, "1")))


def compiles(config: RuntimeConfig, device: torch.device) -> bool:
    """Say whether connections are compiled: on a GPU, and on a CPU where a C++ compiler finds Python's headers.

    UserError where runtime.compile=on asks for what cannot be.
    """
    if config.compile == "off":
        return False
    able = device.type != "cpu" or _builds_extensions()
    if config.compile == "on" and not able:
        raise UserError(
            "runtime.compile=on needs a C++ compiler with OpenMP and Python's headers, not found here; "
            "use runtime.compile=auto (slower without)"
        )
    return able


def _builds_extensions() -> bool:
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    if compiler is None:
        return False
    command = [compiler, "-fopenmp", "-fsyntax-only", "-x", "c++", "-I", sysconfig.get_path("include"), "-"]
    source = "#include <Python.h>\n#include <omp.h>\n"
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks: returning 16 MB states to the kernel costs a page fault per 4 KB, each time."""
    if not sys.platform.startswith("linux"):
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # absent from musl
    if mallopt:
        mallopt(m_mmap_threshold, 32 << 20)
        mallopt(m_trim_threshold, (1 << 31) - 1)
        mallopt(m_arena_max, 1)


def stream_seed(*key: int | str) -> int:
    """Derive an independent 63-bit seed for one purpose, e.g. ("dropout", seed, step)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
