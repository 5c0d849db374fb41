"""Amax gains read again from what a run stored: its token-mean matrices and its kept tokens.

The probe multiplies per token and averages last. Here the same products are formed in numpy, apart from
`measurement.gains` (which needs torch), so that the recorded gains can be checked from the files alone, and
so that one sees what averaging first would have given.
"""

from itertools import accumulate
from math import isqrt

import numpy as np
import pandas as pd

from mhc_repro.runs import Run
from mhc_repro.schema import GAINS

DIRECTIONS = ("forward", "backward")


def side(run: Run) -> int:
    """Return the n of its n x n matrices: the number of streams, or of outputs where all are kept."""
    return isqrt(len(run.gains["h_single"].iloc[0]))


def matrices(run: Run, step: int, key: str = "h_single") -> np.ndarray:
    """Read the token means of H_l ("h_single"), H_l...H_1 ("h_forward") or H_L...H_l ("h_backward"): (L, n, n)."""
    return np.stack(run.probe(step)[key].to_list()).reshape(-1, side(run), side(run))


def token_matrices(run: Run, step: int) -> np.ndarray:
    """Read H_l of the kept probe tokens at a step that kept some: (L, tokens, n, n)."""
    rows = run.tokens[run.tokens["step"] == step].sort_values("layer")
    return np.stack(rows["h_res"].to_list()).reshape(len(rows), -1, side(run), side(run))


def forward(h_res: np.ndarray) -> np.ndarray:
    """Multiply H_l ... H_1 for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    return np.stack([*accumulate(h_res, lambda product, each: each @ product)])


def backward(h_res: np.ndarray) -> np.ndarray:
    """Multiply H_L ... H_l for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    return np.stack([*accumulate(h_res[::-1], np.matmul)][::-1])


def amax(h_res: np.ndarray, direction: str) -> np.ndarray:
    """Give the largest |row sum| (forward) or |column sum| (backward): (..., n, n) -> (...)."""
    return np.abs(h_res.sum(-1 if direction == "forward" else -2)).max(-1)


def weakest_column(run: Run) -> pd.Series:
    """Give the smallest |column sum| of H_L ... H_l by sub-layer, at the last probe: which gradient fades most."""
    rows = run.probe()
    sums = np.stack(rows["h_backward"].to_list()).reshape(-1, side(run), side(run)).sum(1)
    return pd.Series(np.abs(sums).min(1), rows.index)


def recomputed(run: Run, step: int) -> pd.DataFrame:
    """Compare composite gains by sub-layer: as recorded, of the product of averages, and both on kept tokens.

    Columns (direction, which); `recorded` and `of averages` see all probe tokens, `kept` and `kept, of averages`
    those whose H_res the run kept.
    """
    means, tokens = matrices(run, step), token_matrices(run, step)
    recorded = run.probe(step)
    columns = {}
    for direction, multiply in zip(DIRECTIONS, (forward, backward), strict=True):
        columns[direction, "recorded"] = recorded[f"composite_{direction}"].to_numpy()
        columns[direction, "of averages"] = amax(multiply(means), direction)
        columns[direction, "kept"] = amax(multiply(tokens).mean(1), direction)
        columns[direction, "kept, of averages"] = amax(multiply(tokens.mean(1)), direction)
    return pd.DataFrame(columns, index=recorded.index)


def stored_error(run: Run, step: int) -> float:
    """Give the largest relative difference between recorded gains and those of the stored matrices themselves.

    Single and composite, both directions; only rounding is left: the matrices are stored as float32.
    """
    rows = run.probe(step)
    errors = []
    for gain, key in zip(GAINS, ("h_single", "h_single", "h_forward", "h_backward"), strict=True):
        recorded = rows[gain].to_numpy()
        passes = recorded > 0  # no gradient passes a detached history, whatever its matrices
        found = amax(matrices(run, step, key), gain.partition("_")[2])
        errors.append(np.abs(found[passes] / recorded[passes] - 1).max(initial=0.0))
    return float(max(errors))


def last_kept(run: Run) -> int:
    """Give the last step at which the run kept H_res of single tokens."""
    return int(run.tokens["step"].max())
