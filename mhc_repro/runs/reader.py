"""Runs as an analysis meets them: read-only, tables loaded when first asked for, in one fixed order."""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from mhc_repro.errors import UserError
from mhc_repro.runs import files
from mhc_repro.runs.directory import ENDED, RunDirectory
from mhc_repro.runs.identity import PROTOCOL_VERSION, identify
from mhc_repro.runs.table import Table
from mhc_repro.schema import UNITS

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
    def own(self) -> str:
        """What a monitored model is, its class and its user's settings; empty of one of the suite's."""
        return str(self.config["model"]["own"])

    @property
    def layers(self) -> int:
        """Number of sub-layers: two a block, or as many as a model of one's own has."""
        return int(self.config["model"]["layers"] or 2 * self.config["model"]["blocks"])

    @property
    def steps(self) -> int:
        """How many steps it is to have; as many as there are where nobody said."""
        return int(self.config["train"]["steps"] or self.status.get("steps", 0))

    @property
    def progress(self) -> str:
        """How far it has come, of how far it goes: "130/160"."""
        return f"{self.status.get('step', 0)}/{self.steps}"

    @cached_property
    def metrics(self) -> pd.DataFrame:
        return self.table("metrics").read()

    @cached_property
    def gains(self) -> pd.DataFrame:
        return self.table("gains").read()

    @cached_property
    def tokens(self) -> pd.DataFrame:
        return self.table("tokens").read()

    @cached_property
    def kernel(self) -> pd.DataFrame:
        return self.table("kernel").read()

    def probe(self, step: int | None = None) -> pd.DataFrame:
        """Return the gains of one probe by sub-layer: of the one at a step, or of the last."""
        at = self.gains["step"].max() if step is None else step
        return self.gains[self.gains["step"] == at].set_index("layer").sort_index()

    def table(self, name: str) -> Table:
        """Return a table, held to its checksum once the run has ended."""
        sums = self.manifest.get("tables", {}) if self.state in ENDED else {}
        return RunDirectory(self.path).table(name, sums.get(name))


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


def order(run: Run) -> tuple[str, str, int, str]:
    """Say where a run comes in the one order: by study, arm's name, seed and id."""
    return run.study, run.connection, run.seed, run.run_id


def read_run(path: Path | str) -> Run:
    """Return the run in a folder; UserError when a file is broken or the folder was renamed or edited."""
    directory = RunDirectory(Path(os.path.abspath(path)))
    config = directory.read_config()
    state = directory.state()  # before the manifest, which is whole when a run has ended
    manifest = directory.read_manifest() or {}
    expected = identify(config, manifest.get("protocol_version", PROTOCOL_VERSION))
    if directory.run_id != expected:
        # A copy under another name would count as one more seed.
        raise UserError(f"{path}: its config.yaml belongs to {expected}; rename the folder back or delete it")
    status = {key: value for key, value in (directory.read_status() or {}).items() if key not in JUDGED_THEN}
    run = Run(directory.path, config, manifest, status, state)
    for name in _tables(run):
        run.table(name).check()
    return run


def _tables(run: Run) -> Iterable[str]:
    """Name the tables that a run has to have, or of one that has not ended may have."""
    if run.state == "missing" and run.table("metrics").parquet.exists():
        raise files.broken(run.path / "status.json", "no such file")
    if run.state not in ENDED:
        return UNITS
    if not run.manifest:
        raise files.broken(run.path / "manifest.json", "no such file")
    if not run.manifest.get("tables"):
        raise files.broken(run.path / "manifest.json", "lacks tables")
    found: dict[str, str] = run.manifest["tables"]
    return found


def warn(path: Path, fault: UserError) -> None:
    """Log that a folder was skipped, and why."""
    log.warning("skipped %s", fault)


def read_runs(
    root: Path | str, study: str | None = None, onerror: Callable[[Path, UserError], None] = warn
) -> list[Run]:
    """Return the runs under a results root by study, arm and seed; a broken one goes to `onerror` instead."""
    runs = []
    studies = [path for path in _inside(Path(root), onerror) if study in (None, path.name)]
    for path in (each for of_study in studies for each in _inside(of_study, onerror)):
        if any(each.name in FILES for each in _inside(path, onerror)):
            try:
                runs.append(read_run(path))
            except UserError as fault:
                onerror(path, fault)
    return sorted(runs, key=order)


def _inside(folder: Path, onerror: Callable[[Path, UserError], None]) -> list[Path]:
    """List what is in a folder, nothing where it is none; one that cannot be looked into goes to `onerror`."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        onerror(folder, UserError(f"{folder}: {error.strerror}; make it readable, or move it elsewhere"))
        return []
