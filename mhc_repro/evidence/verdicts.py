"""Tell an arm that does nothing from one that works: judged from what the probe recorded.

Several published set-ups are degenerate: their streams stay equal for ever, or H_res never moves,
and their numbers then say nothing about H_res. An arm may declare what is so by construction
(`connection.expects`); such a finding is a property of a control, any other is a fault.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from mhc_repro.config import Config

REASONS = {
    "streams_never_separated": "nothing but rounding tells the streams apart, so this is a single-stream net; "
    "usually a start that treats the streams alike (equal reads and writes, no home stream)",
    "h_res_identity": "H_res is I in every sub-layer, so nothing is mixed; usually a start so deep in a corner "
    "that its gradient vanishes (a low temperature, logits far apart)",
    "h_res_uniform": "H_res is J/n in every sub-layer, so only the mean of the streams survives; usually a "
    "uniform start that symmetry keeps in place",
    "h_res_saturated": "H_res is a permutation in every sub-layer and its logits no longer matter; usually a low "
    "temperature, or logits far apart",
    "h_res_frozen": "H_res never left its start; usually a vanishing gradient, or a learning rate too small "
    "for the steps",
    "gates_saturated": "H_pre or H_post is at the end of its range in every sub-layer, where its gradient "
    "vanishes; usually a start too far out",
    "constraint_missed": "rows or columns of an H_res that should be doubly stochastic do not sum to 1; usually "
    "too few iterations for logits this far apart",
    "connection_gradients_dead": "the gradients of the connections are zero or rounding noise; usually streams "
    "that are alike, or maps that are not applied",
}


SHORTEST = 20  # steps; in fewer, the warm-up has hardly moved what would move


class Verdict(NamedTuple):
    """Reasons found: those that are faults, and those the arm declares."""

    degenerate: list[str]
    control: list[str]


def judge(
    gains: pd.DataFrame,
    metrics: pd.DataFrame,
    config: Config,
    *,
    doubly_stochastic: bool = False,
    exchangeable: bool = False,
) -> Verdict:
    """Judge a run by its gains and metrics tables; a baseline (n = 1) and a run without a late probe never are.

    Of `gains` it needs step, layer, spread, h_single, distance_identity and distance_uniform, of `metrics` step and
    the gradient norms of body and connections; a missing gate_slope, row_error or column_error is not judged, and
    in a run of fewer than SHORTEST steps neither is whether the streams separate or H_res moves.
    `doubly_stochastic`: the rows and columns of H_res are meant to sum to 1.
    `exchangeable`: nothing tells the streams apart at the start, so that what separates them is rounding.
    """
    arm, limits = config.connection, config.guards
    first = max(1, int(np.ceil(limits.judged_after * config.train.steps)))
    late = gains[gains["step"] >= first]
    if arm.n == 1 or late.empty:
        return Verdict([], [])
    found = []
    moving = config.train.steps >= SHORTEST
    if exchangeable or (moving and late["spread"].max() < limits.spread):
        found.append("streams_never_separated")
    h_res = np.stack(late["h_single"].to_list()).reshape(-1, arm.n, arm.n)
    if late["distance_identity"].max() < limits.distance:
        found.append("h_res_identity")
    elif late["distance_uniform"].max() < limits.distance:
        found.append("h_res_uniform")
    elif np.minimum(np.abs(h_res), np.abs(1 - h_res)).max() < limits.vertex:
        found.append("h_res_saturated")
    elif moving and _largest_move(gains, late) < limits.moved:
        found.append("h_res_frozen")
    if "gate_slope" in late and late["gate_slope"].max() < limits.slope:
        found.append("gates_saturated")
    if doubly_stochastic and {"row_error", "column_error"} <= {*late}:
        off = late[["row_error", "column_error"]].max(axis=1)
        # One outlier is no verdict: the worst sub-layer of half the probes must be off.
        if off.groupby(late["step"]).max().median() > limits.residual:
            found.append("constraint_missed")
    rows = metrics[metrics["step"] >= 1]
    if not (rows["grad/norm_connection"] > limits.gradient * rows["grad/norm_body"]).any():
        found.append("connection_gradients_dead")
    expects = [*arm.expects, *(["h_res_identity"] if "mix" in arm.freeze else [])]
    return Verdict([r for r in found if r not in expects], [r for r in found if r in expects])


def _largest_move(gains: pd.DataFrame, late: pd.DataFrame) -> float:
    start = gains[gains["step"] == gains["step"].min()].set_index("layer")["h_single"]
    now = np.stack(late["h_single"].to_list())
    before = np.stack(start.loc[late["layer"]].to_list())
    return float(np.linalg.norm(now - before, axis=1).max())
