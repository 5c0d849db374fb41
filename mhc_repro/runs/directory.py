"""The folder of one run: where it is, who may write it, how far it has come.

`<results root>/<study>/<run id>/` holds `config.yaml`, `manifest.json`, `status.json`, the tables and
`train.log`. A writer holds `.lock` as long as it lives; the operating system frees it when it dies, however
it dies, so a status that still says `running` under a free lock is read as interrupted. The lock file
itself is never removed: a second file of the same name would be a second lock. Where locks do not hold, a run is
written without one: whoever trains it says so, and whoever reads a status `running` takes it to be interrupted.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from filelock import FileLock, Timeout

from mhc_repro import reading
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.places import results_root
from mhc_repro.runs import files, locks, records
from mhc_repro.runs.identity import completed, resolved, run_id
from mhc_repro.runs.table import Table
from mhc_repro.schema import UNITS

STATUSES = get_args(records.State)
DAMAGED = "damaged"  # the state of a run whose status cannot be read
ENDED = ("finished", "diverged")  # a divergence is a result and is not run again
LOCK_SECONDS = 0.2  # longer than a reader needs to see whether the lock is free, too short to be felt


class RunBusy(UserError):
    """Another process writes this run."""


class RunDirectory:
    """One run's folder. Making this object touches no file; `locked` creates the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.log = path / "train.log"
        self.guarded = True  # by a lock that holds, as far as this process has seen

    @classmethod
    def of(cls, config: Config) -> Self:
        """Return the folder of the run that `config` describes."""
        return cls(results_root(config.runtime.results) / config.study / run_id(config))

    @property
    def path_hash(self) -> str:
        """Tell this folder from a copy of the run elsewhere."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]

    @contextmanager
    def locked(self) -> Iterator[Self]:
        """Hold the run for writing; RunBusy when another process (or another part of this one) holds it."""
        lock: AbstractContextManager[Any] = nullcontext()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.guarded = locks.hold(self.path / ".lock")
            if self.guarded:
                lock = self._lock().acquire(timeout=LOCK_SECONDS, poll_interval=LOCK_SECONDS / 10)
        except Timeout:
            message = (
                f"{self.run_id} is being written by another process, or by a monitor that was not closed; wait for "
                "it, stop it or close it"
            )
            raise RunBusy(message) from None
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}; choose a folder with runtime.results=") from None
        with lock:
            files.remove_leftovers(self.path)
            yield self

    def busy(self) -> bool:
        """Return whether a living process holds the run."""
        try:
            if not (self.path / ".lock").exists() or not locks.hold(self.path / ".lock"):
                return False
            with self._lock().acquire(timeout=LOCK_SECONDS / 2, poll_interval=LOCK_SECONDS / 20):
                return False
        except Timeout:
            return True
        except OSError:
            return False  # a read-only copy of somebody's results

    def write_config(self, config: Config) -> None:
        """Write the resolved config, without `runtime`."""
        text = yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True)
        files.write_bytes(self.path / "config.yaml", text.encode())

    def read_config(self) -> dict[str, Any]:
        """Return the resolved config, fields that the schema got later as before; UserError when it is none.

        Its study is the folder it lies in: the id vouches for all else.
        """
        path = self.path / "config.yaml"
        try:
            return completed(reading.from_yaml(reading.read(path))) | {"study": self.path.parent.name}
        except FileNotFoundError:
            raise files.broken(path, "no such file") from None
        except reading.Unfit as unfit:
            raise files.broken(path, str(unfit)) from None

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest atomically."""
        files.write_json(self.path / "manifest.json", manifest)

    def read_manifest(self) -> dict[str, Any] | None:
        """Return the manifest, None when there is none yet."""
        return files.read_json(self.path / "manifest.json", records.Manifest)

    def write_status(self, **fields: Any) -> None:
        """Merge `fields` into the status, stamp it and replace the file atomically; null takes a field away."""
        merged = {**(self.read_status() or {}), **fields}
        merged = {key: value for key, value in merged.items() if value is not None}
        if merged.get("status") not in STATUSES:
            raise ValueError(f"status {merged.get('status')!r} is not one of {', '.join(STATUSES)}")
        merged["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        files.write_json(self.path / "status.json", merged)

    def write_ended(self, config: Config, status: str, message: str) -> None:
        """Say how a run of `config` ended that could not say so itself, wherever it stood."""
        self.write_config(config)
        self.write_status(
            **{"step": 0, "steps": config.train.steps}
            | (self.read_status() or {})
            | {"status": status, "message": message}
        )

    def read_status(self) -> dict[str, Any] | None:
        """Return the status as it was written, None when there is none; `state` says what it means."""
        return files.read_json(self.path / "status.json", records.Status)

    def state(self) -> str:
        """Return the status as a reader should see it: one of STATUSES, or `missing`."""
        if self._written() != "running" or self.busy():
            return self._written()
        # The writer may have ended well between the two looks; under a free lock its last word stands.
        final = self._written()
        return "interrupted" if final == "running" else final

    def state_or_damaged(self) -> str:
        """Return the state, or DAMAGED where the status cannot be read: that of many runs is not lost for one."""
        try:
            return self.state()
        except UserError:
            return DAMAGED

    def finish_tables(self) -> None:
        """Compact the tables and put their checksums into the manifest.

        The status that ends the run comes after: a kill in between leaves a run that has not ended, of which no
        checksum is believed.
        """
        for name, units in UNITS.items():
            self.table(name).finish(units)
        made = {name: table.checksum() for name in UNITS if (table := self.table(name)).parquet.exists()}
        self.write_manifest((self.read_manifest() or {}) | {"tables": made})

    def table(self, name: str, sha256: str | None = None) -> Table:
        """Return the table `metrics`, `gains`, `kernel` or `tokens`."""
        return Table(self.path, name, sha256)

    def _written(self) -> str:
        return str((self.read_status() or {}).get("status", "missing"))

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".lock")
