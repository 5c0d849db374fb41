"""The run directory of a model of one's own: the same files as the suite's, so that everything here reads them.

What the model is, its class and its user's settings, stands in `model.own`. How many steps there will be may not be
known: it is then 0 in the config, and the status says how many there were.
"""

import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mhc_repro.config import Config, ConnectionConfig
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library.finding import Found, is_compiled
from mhc_repro.measurement.seen import Measured, Seen
from mhc_repro.paths import expanded
from mhc_repro.rules import NAME
from mhc_repro.runs import manifest, read_run
from mhc_repro.runs.directory import ENDED, RunDirectory
from mhc_repro.runs.identity import identify, resolved
from mhc_repro.runs.table import Table
from mhc_repro.schema import UNITS, Row

SECONDS = 2  # between two words on how far a run is
TOKEN_MAPS_EVERY = 5  # probes: how often the maps of single tokens are kept
ROUNDING, DRIFT = 1e-5, 1e-4  # of sums that are exact, and of sums that a Sinkhorn was stopped short of


class Record:
    """One run's folder, opened when its first measurement says what it is of."""

    def __init__(
        self,
        out: str | os.PathLike[str],
        name: str,
        seed: int,
        steps: int | None,
        every: int,
        start: int,
        overwrite: bool,
        settings: Mapping[str, Any],
    ) -> None:
        self.folder = expanded(out).absolute()
        if self.folder.is_file():
            raise UserError(f"out={out}: is a file; name a folder")
        for key, value in (("name", name), ("out", self.folder.name)):
            if not NAME.holds(value):
                raise UserError(f"{key}={value}: must be {NAME.allowed}")
        for key, plain in settings.items():
            if not isinstance(plain, str | int | float):
                raise UserError(f"settings: {key}={plain!r}: must be a number, a word or a bool")
        self.config = Config(seed=seed, study=self.folder.name)
        self.config.connection = ConnectionConfig(name=name, kind="streams", mixing={"kind": "measured"})
        self.config.train.steps, self.config.probe.every = steps or 0, every
        self.config.data.name = "own"
        self.settings, self.start, self.overwrite = dict(settings), start, overwrite
        self.path: Path | None = None
        self.closed = False
        self.last = start
        self.nature: dict[str, bool] = {}
        self.message = ""
        self._tables: dict[str, Table] = {}
        self._recorded: Row = {}  # what a run that goes on had of its first step, perhaps without maps
        self._wall_before = 0.0
        self._held = ExitStack()
        self._started = self._said = time.monotonic()
        self._probes = 0

    def open(
        self, outer: nn.Module, model: nn.Module, seen: Seen, shape: tuple[int, ...], found: Sequence[Found]
    ) -> str:
        """Make the folder, once; say what a run that goes on lacks. UserError where an ended one is in the way."""
        if self.path is not None:
            return ""
        lacks = ""
        resolved_config = self._describe(model, seen, shape)
        self.run = RunDirectory(self.folder / identify(resolved_config))
        status = self.run.read_status() or {}
        if status.get("status") in ENDED and not self.overwrite and not self.start:
            raise UserError(
                f"{self.run.path}: a run that has {status['status']}; give another name=, seed= or settings=, "
                "overwrite=True to replace it, or start= to go on"
            )
        self._held.enter_context(self.run.locked())
        self.path = self.run.path
        self._tables = {name: self.run.table(name) for name in UNITS}
        if self.start:
            self._wall_before = status.get("wall_seconds", 0.0)
            rows = self._tables["metrics"].read()
            if (begins := int(rows["step"].max()) + 1 if len(rows) else 0) < self.start:
                lacks = f"{self.path}: steps {begins} to {self.start - 1} are not in the record"
            first = rows[rows["step"] == self.start].dropna(axis=1)
            self._recorded = {str(name): column.item() for name, column in first.items() if len(column)}
        for table in self._tables.values():
            table.truncate(self.start - 1 if self.start else -1)
        self.run.write_config(self.config)
        self.run.write_manifest(self._manifest(outer, model, found))
        self._status("running", message="")
        return lacks

    def _describe(self, model: nn.Module, seen: Seen, shape: tuple[int, ...]) -> dict[str, Any]:
        config, layers = self.config, len(seen.maps)
        config.connection.n = seen.maps[0].mix.shape[0]
        config.model.layers, config.model.blocks = layers, (layers + 1) // 2
        config.data.batch = shape[0] if shape else 1
        config.data.sequence = max(1, math.prod(shape[1:])) if shape else 1
        settings = (f"{key}={value}" for key, value in self.settings.items())
        config.model.own = ", ".join([type(model).__name__, *settings])
        return resolved(config)

    def _manifest(self, outer: nn.Module, model: nn.Module, found: Sequence[Found]) -> dict[str, Any]:
        own = {id(p): p.numel() for each in found for p in each.adapter.parameters(each.module)}
        total, connection = sum(p.numel() for p in model.parameters()), sum(own.values())
        device = next(model.parameters()).device
        fingerprint = manifest.fingerprint(device, torch.get_num_threads(), is_compiled(outer))
        session = manifest.session(self.start)
        recorded = self.run.read_manifest() if self.start else None
        if recorded is not None:
            for code, holds in recorded.get("nature", {}).items():
                self.knows(code, holds)
            made = manifest.goes_on(recorded, session)
            exact = made["exact"] and recorded["fingerprint"] == fingerprint
            return made | {"nature": self.nature, "fingerprint": fingerprint, "exact": exact}
        return manifest.begun(
            self.run.run_id,
            session,
            data_sha256="",
            parameters={"body": total - connection, "connection": connection, "total": total},
            fingerprint=fingerprint,
            monitored={each.name: type(each.module).__name__ for each in found},
            nature=self.nature,
        )

    def kept(self, count: int) -> Tensor | None:
        """Return the places of the tokens, of `count`, whose own maps are kept this time; None for none."""
        due = self._probes % TOKEN_MAPS_EVERY == 0
        return torch.linspace(0, count - 1, min(64, count)).long() if due else None

    def add(self, made: Measured) -> None:
        """Write the rows of the tables of sub-layers."""
        self._probes += 1
        for name in ("gains", "kernel", "tokens"):
            if rows := getattr(made, name):
                self._tables[name].append(*rows)

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows of the metrics."""
        if self.path is None or not rows:
            return
        self._tables["metrics"].append(
            *(self._recorded | row if row["step"] == self.start else row for row in rows)
        )
        self.last = rows[-1]["step"]
        if time.monotonic() - self._said > SECONDS:
            self._status("running")

    def knows(self, code: str, holds: bool) -> None:
        """Take down what no table says: what H_res is meant to be, and how it is used."""
        self.nature[code] = self.nature.get(code, False) or holds

    def diverged(self, message: str) -> None:
        """Take down that a loss was not finite."""
        self.message = self.message or message

    def close(self, status: str, message: str) -> list[str]:
        """Finish the tables and write the status; return the codes of what the guards found, if it has ended."""
        self.closed = True
        if self.path is None:
            return []
        if status == "finished" and self.message:
            status, message = "diverged", self.message
        if status in ENDED:
            nature = {**self.nature, "columns_exact": columns_exact(self._tables["gains"].read())}
            self.run.write_manifest((self.run.read_manifest() or {}) | {"nature": nature})
            self.run.finish_tables()
        self._status(status, message=message)
        self._held.close()
        return [code for word, code in verdict(read_run(self.path)).notes() if word != "not judged"]

    def _status(self, status: str, **fields: Any) -> None:
        self._said = time.monotonic()
        wall = round(self._wall_before + self._said - self._started, 1)
        steps = max(self.config.train.steps, self.last)
        self.run.write_status(status=status, step=self.last, steps=steps, wall_seconds=wall, **fields)


def columns_exact(gains: pd.DataFrame) -> bool:
    """Say whether columns of H_res sum to 1 where rows do not."""
    return bool(gains["column_error"].max() < ROUNDING and gains["row_error"].max() > DRIFT)
