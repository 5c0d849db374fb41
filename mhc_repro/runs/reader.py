"""Runs as an analysis meets them: read-only, tables loaded when first asked for, in one fixed order."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from mhc_repro.errors import UserError
from mhc_repro.runs.directory import ENDED, RunDirectory
from mhc_repro.runs.identity import PROTOCOL_VERSION, identify

FILES = ("config.yaml", "manifest.json", "status.json")  # a folder that has one of these is meant to be a run
JUDGED_THEN = ("degenerate", "control")  # in the status of older runs; evidence.verdicts judges anew

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Run:
    """One run as it was on disk; `manifest` and `status` are empty when not written yet."""

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    status: dict[str, Any]
    state: str

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def study(self) -> str:
        return self.path.parent.name

    @property
    def connection(self) -> str:
        return str(self.config["connection"]["name"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def n(self) -> int:
        """Number of streams."""
        return int(self.config["connection"]["n"])

    @property
    def layers(self) -> int:
        """Number of sub-layers: two a block."""
        return 2 * int(self.config["model"]["blocks"])

    @property
    def progress(self) -> str:
        """How far it has come, of how far it goes: "130/160"."""
        return f"{self.status.get('step', 0)}/{self.config['train']['steps']}"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return self._table("metrics")

    @cached_property
    def gains(self) -> pd.DataFrame:
        return self._table("gains")

    @cached_property
    def tokens(self) -> pd.DataFrame:
        return self._table("tokens")

    def probe(self, step: int | None = None) -> pd.DataFrame:
        """Return the gains of one probe by sub-layer: of the one at a step, or of the last."""
        at = self.gains["step"].max() if step is None else step
        return self.gains[self.gains["step"] == at].set_index("layer").sort_index()

    def _table(self, name: str) -> pd.DataFrame:
        return RunDirectory(self.path).table(name).read()


def once(read: Callable[[Run], T]) -> Callable[[Run], T]:
    """Read it of each run once, as a cached property does that a module above `runs` adds."""

    @wraps(read)
    def remembered(run: Run) -> T:
        known = vars(run)
        if read.__name__ not in known:
            known[read.__name__] = read(run)
        found: T = known[read.__name__]
        return found

    return remembered


def place(run: Run) -> tuple[str, str, int, str]:
    """Say where a run comes in the one order: by study, arm's name, seed and id."""
    return run.study, run.connection, run.seed, run.run_id


def read_run(path: Path | str) -> Run:
    """Return the run in a folder; UserError when a file is broken or the folder was renamed or edited."""
    directory = RunDirectory(Path(os.path.abspath(path)))
    config = directory.read_config()
    manifest = directory.read_manifest() or {}
    expected = identify(config, manifest.get("protocol_version", PROTOCOL_VERSION))
    if directory.run_id != expected:
        # A copy under another name would count as one more seed.
        raise UserError(f"{path}: its config.yaml belongs to {expected}; rename the folder back or delete it")
    state = directory.state()
    if state in ENDED:
        directory.check()
    status = {key: value for key, value in (directory.read_status() or {}).items() if key not in JUDGED_THEN}
    return Run(directory.path, config, manifest, status, state)


def read_runs(root: Path | str, study: str | None = None) -> list[Run]:
    """Return the runs under a results root by study, arm and seed; a broken one is skipped with a warning."""
    runs = []
    for path in sorted(Path(root).glob("*/*")):
        if study in (None, path.parent.name) and any((path / name).exists() for name in FILES):
            try:
                runs.append(read_run(path))
            except UserError as error:
                log.warning("skipped %s", error)
    return sorted(runs, key=place)
