"""What a run goes on from, or why it is refused.

Rows past the last whole checkpoint are dropped and made again, bit for bit, as long as the fingerprint (device,
threads, versions, CPU) and the code agree. Another fingerprint is refused unless asked for, other code is not:
either marks the run as not exact.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch

from mhc_repro import world
from mhc_repro.config import RuntimeConfig
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, files, manifest
from mhc_repro.runs.table import Table
from mhc_repro.training import runtime
from mhc_repro.training.checkpoint import Checkpoints


class Past(NamedTuple):
    """What was made of a run before; of one that starts at step 0, anew or again, nothing but warnings."""

    manifest: dict[str, Any]
    state: dict[str, Any] | None  # of its newest checkpoint
    wall: float  # seconds
    warnings: list[str]

    def goes_on_exactly(
        self, run: RunDirectory, fingerprint: dict[str, Any], config: RuntimeConfig, device: torch.device
    ) -> bool:
        """Say whether all of the run is made alike; UserError where it would not be and that was not asked for."""
        if not self.manifest:
            return True
        was, unsaid = self.manifest["fingerprint"], {"accumulate": 1, "world_size": 1}  # where it is so
        differences = manifest.differences(unsaid | was, unsaid | fingerprint)
        if differences and config.resume == "exact":
            if was["compile"] and not fingerprint["compile"]:
                differences.append(f"uncompiled: {runtime.why_uncompiled(config, device)}")
            count = was.get("world_size", 1)
            how = f" (torchrun --nproc-per-node={count} ...)" if count not in (1, world.size()) else ""
            raise UserError(
                f"{run.run_id} cannot be resumed exactly: {'; '.join(differences)}; "
                f"set it as it was{how}, or go on all the same and have the run marked with runtime.resume=any"
            )
        return self.manifest.get("exact", True) and not differences


def past(run: RunDirectory, checkpoints: Checkpoints, tables: Mapping[str, Table]) -> Past:
    """Read what is there of `run`: manifest, tables, checkpoint; UserError where one lacks what others tell of."""
    before = run.read_manifest() or {}
    steps = {name: table.read()["step"] for name, table in tables.items()}
    _refuse_lost(run, before, steps)
    done = steps["metrics"]
    state, warnings = checkpoints.load(done.iloc[-1] if before and len(done) else -1)
    if state:
        _refuse_holes(run, state, steps)
        return Past(before, state, (run.read_status() or {}).get("wall_seconds", 0.0), warnings)
    if before and done.max() > 0:
        warnings.append(_made_again(done, checkpoints))
    return Past({}, None, 0.0, warnings)


def _refuse_lost(run: RunDirectory, before: dict[str, Any], steps: dict[str, pd.Series]) -> None:
    """Raise UserError where rows are without their manifest, or a status without its rows: no kill leaves that."""
    if not before and any(map(len, steps.values())):
        raise files.broken(run.path / "manifest.json", "no such file")
    step = (run.read_status() or {}).get("step", 0)
    if before and step and not len(steps["metrics"]):
        raise files.broken(run.table("metrics").jsonl, f"no rows, and the run was at step {step}")


def _refuse_holes(run: RunDirectory, state: dict[str, Any], steps: dict[str, pd.Series]) -> None:
    """Raise UserError where a table has fewer rows than it had at the checkpoint, which may be too old to say."""
    for name, count in state.get("rows", {}).items():
        left = int((steps[name] <= state["step"]).sum())
        if left < count:
            fault = f"{left} of the {count} rows that it had at step {state['step']}"
            raise files.broken(run.table(name).jsonl, fault)


def _made_again(done: pd.Series, checkpoints: Checkpoints) -> str:
    return (
        f"no checkpoint in {checkpoints.folder}, so its {done.iloc[-1]} steps are made again: it was killed before "
        f"the first (one every {checkpoints.seconds:g} s), or that is in another cache (runtime.cache=)"
    )
