"""Checkpoints that survive a kill at any moment: written whole, the previous one kept.

A file is a torch archive behind the SHA-256 of its bytes. It is written to a temporary name, synced
and renamed, so a torn file can only come from the disk; it is then skipped with one warning.
"""

import hashlib
import io
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from mhc_repro import cache
from mhc_repro.config import Config
from mhc_repro.runs import RunDirectory, files

OVERHEAD = 0.01  # of the run time, at most, goes into checkpoints


def checkpoint_folder(config: Config, run: RunDirectory) -> Path:
    """Return where a run's checkpoints are: by run id, and by place, since a copy elsewhere is another run."""
    return cache.cache_directory(config.runtime.cache) / "checkpoints" / f"{run.run_id}-{run.path_hash}"


class Checkpoints:
    """The checkpoints of one run, in a folder of its own."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds
        self.last = time.monotonic()
        self.cost = 0.0

    def due(self) -> bool:
        """Say whether it is time: every `seconds`, less often where saving is slow."""
        return time.monotonic() - self.last >= max(self.seconds, self.cost / OVERHEAD)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` updates and drop all but the one before."""
        start = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        digest = hashlib.sha256(buffer.getbuffer()).digest()
        files.write_bytes(self.folder / f"step-{step:08d}.pt", digest, buffer.getbuffer())
        for old in self.paths()[2:]:
            old.unlink(missing_ok=True)
        self.last = time.monotonic()
        self.cost = self.last - start

    def paths(self) -> list[Path]:
        """List the checkpoints, newest first."""
        return sorted(self.folder.glob("step-*.pt"), key=lambda path: int(path.stem[5:]), reverse=True)

    def load(self, last_step: float = math.inf) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the newest whole checkpoint, None if there is none; drop the unusable ones with a warning each.

        A checkpoint past `last_step`, the last that the tables hold (-1: none), cannot be gone on from.
        """
        warnings: list[str] = []
        files.remove_leftovers(self.folder)
        for path in self.paths():
            content = path.read_bytes()
            digest, payload = content[:32], content[32:]
            if hashlib.sha256(payload).digest() != digest:
                warnings.append(f"checkpoint {path.name} is torn; falling back to the one before")
            else:
                # To the CPU: the device it was saved on may not be here, and the model copies from anywhere.
                state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
                if state["step"] <= last_step:
                    return state, warnings
                if last_step >= 0:
                    warnings.append(
                        f"checkpoint {path.name} is ahead of the tables; falling back to the one before"
                    )
            path.unlink()
        return None, warnings

    def drop(self) -> None:
        """Remove all of them, with their folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
