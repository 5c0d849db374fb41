"""`results/index.csv`: a line a run with its settings and every quantity of the ledger; generated, never edited."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mhc_repro.evidence.comparison import settings, varying
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.evidence.verdicts import Verdict, verdict
from mhc_repro.runs.reader import Run

WHO = ("run_id", "study", "connection", "seed")
COLUMNS = (  # behind who it is and what is not the same in all runs, under the key that an override has
    *("status", *Verdict._fields, "steps", "commit", "dirty", "data_sha256", "parameters", "wall_seconds"),
    *LEDGER,
)


def index(runs: Sequence[Run]) -> pd.DataFrame:
    """Return one row per run; what a run does not have is missing, never zero."""
    flat = [settings(run) for run in runs]
    keys = varying(flat, of_connection=False)
    rows = [of_run | _row(run) for run, of_run in zip(runs, flat, strict=True)]
    frame = pd.DataFrame(rows, columns=[*WHO, *keys, *COLUMNS])
    return frame.astype({"seed": "Int64", "steps": "Int64", "parameters": "Int64", "dirty": "boolean"})


def index_csv(runs: Sequence[Run]) -> str:
    """Write the text of `index.csv`: ten digits, so that another machine's last bits do not show."""
    return index(runs).to_csv(index=False, lineterminator="\n", float_format="%.10g")


def _row(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "study": run.study,
        "connection": run.connection,
        "seed": run.seed,
        "status": run.state,
        **{word: ";".join(codes) for word, codes in verdict(run)._asdict().items()},
        "steps": run.status.get("step"),
        "commit": run.manifest.get("commit"),
        "dirty": run.manifest.get("dirty"),
        "data_sha256": run.config.get("data", {}).get("sha256"),
        "parameters": (run.manifest.get("parameters") or {}).get("total"),
        "wall_seconds": run.status.get("wall_seconds"),
        **values(run),
    }
