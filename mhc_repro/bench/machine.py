"""What this machine can do here and now: its fastest matrix product and its fastest copy."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from mhc_repro.linear import linear


def sgemm_peak(device: torch.device, sizes: Sequence[int] = (512, 1024, 2048), seconds: float = 0.1) -> float:
    """Return the most FLOPs a second that a float32 product of square matrices reaches, in either library."""
    best = 0.0
    for size in sizes:
        a, b = (torch.ones(size, size, device=device) for _ in range(2))
        for multiply in (torch.mm, linear):
            best = max(best, 2 * size**3 / _fastest(partial(multiply, a, b), seconds, device))
    return best


def copy_peak(device: torch.device, size: int, seconds: float = 0.1) -> float:
    """Return the most bytes a second, read and written, that copying `size` bytes reaches."""
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / _fastest(lambda: target.copy_(source), seconds, device)


def _fastest(call: Callable[[], object], seconds: float, device: torch.device) -> float:
    best, until = float("inf"), time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        call()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        end = time.perf_counter()
        best = min(best, end - start)
        if end >= until:
            return best
