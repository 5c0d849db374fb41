"""Amax gains read again from what a run stored: its token-mean matrices and its kept tokens.

The probe multiplies per token and averages last. Here the same products are formed in numpy, apart from
`measurement.gains` (which needs torch), so that the recorded gains can be checked from the files alone, and
so that one sees what averaging first would have given.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mhc_repro.analysis.arms import style
from mhc_repro.analysis.comparison import Comparison
from mhc_repro.runs import Run

DIRECTIONS = ("forward", "backward")


def matrices(run: Run, step: int, key: str = "h_single") -> np.ndarray:
    """Read the token means of H_l ("h_single"), H_l...H_1 ("h_forward") or H_L...H_l ("h_backward"): (L, n, n)."""
    rows = run.gains[run.gains["step"] == step].sort_values("layer")
    n = run.config["connection"]["n"]
    return np.stack(rows[key].to_list()).reshape(-1, n, n)


def token_matrices(run: Run, step: int) -> np.ndarray:
    """Read H_l of the kept probe tokens at a step that kept some: (L, tokens, n, n)."""
    rows = run.tokens[run.tokens["step"] == step].sort_values("layer")
    n = run.config["connection"]["n"]
    return np.stack(rows["h_res"].to_list()).reshape(len(rows), -1, n, n)


def forward(h: np.ndarray) -> np.ndarray:
    """Multiply H_l ... H_1 for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    products = [h[0]]
    for each in h[1:]:
        products.append(each @ products[-1])
    return np.stack(products)


def backward(h: np.ndarray) -> np.ndarray:
    """Multiply H_L ... H_l for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    products = [h[-1]]
    for each in h[-2::-1]:
        products.append(products[-1] @ each)
    return np.stack(products[::-1])


def amax(h: np.ndarray, direction: str) -> np.ndarray:
    """Give the largest absolute row sum (forward) or column sum (backward): (..., n, n) -> (...)."""
    return np.abs(h.sum(-1 if direction == "forward" else -2)).max(-1)


def recomputed(run: Run, step: int) -> pd.DataFrame:
    """Compare composite gains by sub-layer: as recorded, of the product of averages, and both on kept tokens.

    Columns (direction, which); `recorded` and `of averages` see all probe tokens, `kept` and `kept, of averages`
    those whose H_res the run kept.
    """
    means, tokens = matrices(run, step), token_matrices(run, step)
    recorded = run.gains[run.gains["step"] == step].set_index("layer").sort_index()
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
    rows = run.gains[run.gains["step"] == step].sort_values("layer")
    errors = []
    for key, column, direction in (
        ("h_single", "single_forward", "forward"),
        ("h_single", "single_backward", "backward"),
        ("h_forward", "composite_forward", "forward"),
        ("h_backward", "composite_backward", "backward"),
    ):
        recorded = rows[column].to_numpy()
        passes = recorded > 0  # no gradient passes a detached history, whatever its matrices
        found = amax(matrices(run, step, key), direction)
        errors.append(np.abs(found[passes] / recorded[passes] - 1).max(initial=0.0))
    return float(max(errors))


def last_kept(run: Run) -> int:
    """Give the last step at which the run kept H_res of single tokens."""
    return int(run.tokens["step"].max())


def peaks(comparison: Comparison) -> pd.DataFrame:
    """Where each arm's gains are largest: value, sub-layer and step, and the largest at the last probe."""
    found = {}
    for arm, run in _runs(comparison):
        for key in ("single_forward", "single_backward", "composite_forward", "composite_backward"):
            # rounded, lest rounding noise around 1 names a place; the first of equals counts
            top = run.gains.iloc[int(run.gains[key].round(6).to_numpy().argmax())]
            last = run.gains[run.gains["step"] == run.gains["step"].max()]
            found[arm, key.replace("_", " ")] = {
                "largest": top[key],
                "at sub-layer": int(top["layer"]),
                "at step": int(top["step"]),
                "at the last probe": last[key].max(),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "gain"])


def compounding(comparison: Comparison) -> pd.DataFrame:
    """Compare, at the last probe, what the single gains multiply to with the composite through all sub-layers."""
    found = {}
    for arm, run in _runs(comparison):
        last = run.gains[run.gains["step"] == run.gains["step"].max()].set_index("layer")
        for direction, end in zip(DIRECTIONS, (last.index.max(), last.index.min()), strict=True):
            single, composite = last[f"single_{direction}"], last.loc[end, f"composite_{direction}"]
            found[arm, direction] = {
                "largest single": single.max(),
                "product of singles": single.prod(),
                "composite, all sub-layers": composite,
                "growth per sub-layer": composite ** (1 / len(last)),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "direction"])


def readings(comparison: Comparison) -> pd.DataFrame:
    """Three readings of the composite gain at the last probe, each the largest over the sub-layers.

    Of the token mean (the paper's figures), the mean of each token's own, and the induced norm of the token mean.
    """
    found = {}
    for arm, run in _runs(comparison):
        last = run.gains[run.gains["step"] == run.gains["step"].max()]
        for direction in DIRECTIONS:
            key = f"composite_{direction}"
            found[arm, direction] = {
                "amax of the token mean": last[key].max(),
                "mean of each token's amax": last[f"{key}_token"].max(),
                "norm of the token mean": last[f"{key}_norm"].max(),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "direction"])


def _runs(comparison: Comparison) -> Sequence[tuple[str, Run]]:
    """Name every run: by its arm, and by its seed where there are several."""
    many = len(comparison.seeds) > 1
    return [
        (style(arm).label + (f", seed {run.seed}" if many else ""), run)
        for arm, runs in comparison.arms.items()
        for run in runs
    ]
