"""The run directory: who a run is, what it wrote, how far it has come. Never imports torch."""

from mhc_repro.runs.directory import ENDED, RunBusy, RunDirectory
from mhc_repro.runs.identity import PROTOCOL_VERSION, run_id
from mhc_repro.runs.reader import Run, once, read_run, read_runs
from mhc_repro.runs.table import Table

__all__ = [
    "ENDED",
    "PROTOCOL_VERSION",
    "Run",
    "RunBusy",
    "RunDirectory",
    "Table",
    "once",
    "read_run",
    "read_runs",
    "run_id",
]
