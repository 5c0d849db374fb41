"""The run directory: who a run is, what it wrote, how far it has come. Never imports torch."""

from mhc_repro.places import LOCAL, RECORDED, checkout, results_root, runs_root
from mhc_repro.runs.directory import ENDED, RunBusy, RunDirectory
from mhc_repro.runs.identity import PROTOCOL_VERSION, run_id
from mhc_repro.runs.reader import Run, once, read_run, read_runs
from mhc_repro.runs.table import Table
from mhc_repro.schema import UNITS

__all__ = [
    "ENDED",
    "LOCAL",
    "PROTOCOL_VERSION",
    "RECORDED",
    "UNITS",
    "Run",
    "RunBusy",
    "RunDirectory",
    "Table",
    "checkout",
    "once",
    "read_run",
    "read_runs",
    "results_root",
    "run_id",
    "runs_root",
]
