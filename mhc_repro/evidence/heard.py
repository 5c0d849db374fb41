"""The recorded depth kernel of an arm: whose output each sub-layer and the readout read, mean over seeds."""

from collections.abc import Sequence

import numpy as np

from mhc_repro.evidence.readings import column
from mhc_repro.runs import Run

MEASURED = "kernel/late_share"  # in the metrics of every run that has the table


def measured(runs: Sequence[Run]) -> list[Run]:
    """Keep the runs that recorded their kernel."""
    return [run for run in runs if len(column(run.metrics, MEASURED))]


def k_hat(runs: Sequence[Run]) -> np.ndarray | None:
    """Return K-hat (L + 1, L + 1), mean over the seeds, each at its last probe that is finite; None without one.

    Row t is who reads, sub-layer t + 1 and last the readout; column j whose output, the embedding's first. NaN
    above the diagonal, where nothing is read.
    """
    found = [each for run in measured(runs) if (each := _last(run)) is not None]
    return np.mean(found, axis=0) if found else None


def _last(run: Run) -> np.ndarray | None:
    for _, probe in reversed(list(run.kernel.groupby("step"))):
        rows = probe.sort_values("layer")["k_hat"].to_list()
        if all(np.isfinite(row).all() for row in rows):
            square = np.full((len(rows), len(rows)), np.nan)
            for at, row in enumerate(rows):
                square[at, : at + 1] = row
            return square
    return None
