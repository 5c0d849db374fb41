"""Device, threads and memory: how a run is executed, never what it computes."""

import ctypes
import os
import sys
from typing import Any

import torch

from mhc_repro import world
from mhc_repro.cache import cache_directory
from mhc_repro.config import RuntimeConfig
from mhc_repro.cores import cores
from mhc_repro.errors import UserError
from mhc_repro.runs.manifest import fingerprint
from mhc_repro.training import compiler

CONCURRENT = "MHC_REPRO_CONCURRENT"  # of runs side by side: how many there are


def set_up(config: RuntimeConfig, recorded: dict[str, Any]) -> tuple[torch.device, dict[str, Any]]:
    """Prepare the process for a run; return its device and its fingerprint.

    Threads that are not given are those of the `recorded` fingerprint of an unfinished run, else all cores.
    """
    device = device_of(config)
    threads = config.threads or recorded.get("threads") or default_threads()
    torch.set_num_threads(threads)
    compiler.configure()  # before the deterministic mode, which imports it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # older torch asks for it on a GPU
    torch.use_deterministic_algorithms(True)
    # Else every new tensor is first filled with NaN.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    keep_freed_memory()
    made = fingerprint(device, threads, compiles(config, device))
    # Parts are summed in another order than a whole; runs from before there were parts name none.
    parts = {"accumulate": config.accumulate, "world_size": world.size()}
    return device, made | {name: count for name, count in parts.items() if count > 1}


def device_of(config: RuntimeConfig) -> torch.device:
    """Choose the device, of each process its own; UserError where one is asked for that is not there."""
    kind, _, number = config.device.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if world.local_size() > 1 and (number or kind == "mps"):
        raise UserError(
            f"runtime.device={config.device}: {world.local_size()} processes would share it; use "
            "runtime.device=auto, a GPU for each process"
        )
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind == "cuda" and there[kind] and world.local_size() > 1:
        if world.local_size() > there[kind]:
            raise UserError(
                f"{world.local_size()} processes on this machine and {there[kind]} GPUs; use "
                f"torchrun --nproc-per-node={there[kind]}, or runtime.device=cpu"
            )
        number = str(world.local_rank())
    if int(number or 0) >= there.get(kind, 1):
        raise UserError(
            f"runtime.device={config.device}: torch sees no such device here; use runtime.device=cpu"
        )
    return torch.device(f"{kind}:{number}" if number else kind)


def default_threads() -> int:
    """Share the cores this process may use among the runs that go on side by side, and a run's processes."""
    return max(1, cores() // int(os.environ.get(CONCURRENT, "1")) // world.local_size())


def compiles(config: RuntimeConfig, device: torch.device) -> bool:
    """Say whether connections are compiled: wherever that works, and on mps, a prototype, where it is asked for.

    UserError where runtime.compile=on asks for what cannot be.
    """
    fault = why_uncompiled(config, device)
    if config.compile == "on" and fault:
        raise UserError(f"runtime.compile=on: {fault}; use runtime.compile=auto (slower without)")
    return not fault


def why_uncompiled(config: RuntimeConfig, device: torch.device, trusting: bool = True) -> str:
    """Say in a phrase why connections are not compiled; empty where they are. `trusting`: an earlier proof."""
    if config.compile == "off":
        return "as asked"
    if config.compile == "auto" and device.type == "mps":
        return "torch's compiler for mps is a prototype"
    return compiler.fault(device, cache_directory(config.cache), trusting)


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
