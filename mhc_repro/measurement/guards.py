"""Tell an arm that does nothing from one that works: judged from what the probe recorded.

Several published set-ups are degenerate: their streams stay equal for ever, or H_res never moves,
and their numbers then say nothing about H_res. An arm may declare what is so by construction
(`connection.expects`); such a finding is a property of a control, any other is a fault.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

REASONS = {
    "streams_never_separated": "all streams carry the same numbers, so this is a single-stream net; usually a "
    "start that treats the streams alike (equal reads and writes, no home stream)",
    "h_res_identity": "H_res is I in every sub-layer, so nothing is mixed; usually a start so deep in a corner "
    "that its gradient vanishes (a low temperature, logits far apart)",
    "h_res_uniform": "H_res is J/n in every sub-layer, so only the mean of the streams survives; usually a "
    "uniform start that symmetry keeps in place",
    "h_res_frozen": "H_res never left its start; usually a vanishing gradient, or a learning rate too small "
    "for the steps",
    "connection_gradients_dead": "the gradients of the connections are zero or rounding noise; usually streams "
    "that are alike, or maps that are not applied",
}
SPREAD = 1e-4  # relative spread between streams below which they count as equal
DISTANCE = 1e-4  # Frobenius distance below which H_res counts as I or J/n
MOVED = 1e-5  # Frobenius distance from its start below which H_res counts as frozen
GRADIENT = 1e-9  # connection gradient norm over body gradient norm that counts as noise
JUDGED_AFTER = 0.05  # fraction of the steps before which nothing is judged


class Verdict(NamedTuple):
    """Reasons found: those that are faults, and those the arm declares."""

    degenerate: list[str]
    control: list[str]


def judge(gains: pd.DataFrame, metrics: pd.DataFrame, n: int, steps: int, expects: list[str]) -> Verdict:
    """Judge a run by its gains and metrics tables; a baseline (n = 1) and a run too short are never judged."""
    first = max(1, int(np.ceil(JUDGED_AFTER * steps)))
    late = gains[gains["step"] >= first]
    if n == 1 or late.empty:
        return Verdict([], [])
    found = []
    if late["spread"].max() < SPREAD:
        found.append("streams_never_separated")
    if late["distance_identity"].max() < DISTANCE:
        found.append("h_res_identity")
    elif late["distance_uniform"].max() < DISTANCE:
        found.append("h_res_uniform")
    elif _largest_move(gains, late) < MOVED:
        found.append("h_res_frozen")
    rows = metrics[metrics["step"] >= 1]
    if not (rows["grad/norm_connection"] > GRADIENT * rows["grad/norm_body"]).any():
        found.append("connection_gradients_dead")
    return Verdict([r for r in found if r not in expects], [r for r in found if r in expects])


def _largest_move(gains: pd.DataFrame, late: pd.DataFrame) -> float:
    start = gains[gains["step"] == gains["step"].min()].set_index("layer")["h_single"]
    now = np.stack(late["h_single"].to_list())
    before = np.stack(start.loc[late["layer"]].to_list())
    return float(np.linalg.norm(now - before, axis=1).max())
