"""Tell a run whose mixing is dead from one that works, and one that keeps its constraint from one that does not.

Judged whenever a run is read, from what its probes recorded, so that a better guard serves old runs too. *Dead*:
the streams stay equal for ever, H_res never moves, no gradient comes through; such a run says nothing about H_res.
*Off the constraint*: the sums of an H_res that should be doubly stochastic are far from 1; such a run lives, and
nothing bounds its gain. What an arm declares (`connection.expects`) is a *control*. What was not recorded is *not
judged*, which is not passed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mhc_repro.reasons import OFF, REASONS, TOLD
from mhc_repro.runs import ENDED, Run, once


class Limits(NamedTuple):
    """Where a finding begins; every limit must hold at each probe that is judged."""

    judged_after: float = 0.05  # fraction of the steps before which nothing is judged
    shortest: int = 20  # steps; in fewer, the warm-up has hardly moved what would move
    spread: float = 1e-4  # relative spread between streams below which they count as equal
    distance: float = 1e-4  # Frobenius distance below which H_res counts as I or J/n
    moved: float = 1e-5  # Frobenius distance from its start below which H_res counts as frozen
    vertex: float = 1e-6  # distance of every entry of H_res from 0 or 1 below which it is saturated
    slope: float = 1e-3  # slope of the gates, of 1 at most, below which they are saturated
    residual: float = 0.25  # a token's row or column sums off 1 by more, on average, miss the constraint
    gradient: float = 1e-9  # connection gradient norm over body gradient norm that counts as noise


LIMITS = Limits()


class Verdict(NamedTuple):
    """Codes of REASONS: found as faults of three kinds, found as the arm declares, and not to be judged."""

    dead: tuple[str, ...] = ()
    off_the_constraint: tuple[str, ...] = ()
    applied_otherwise: tuple[str, ...] = ()  # in a model of one's own, than its maps or Eq. 9 say
    control: tuple[str, ...] = ()
    not_judged: tuple[str, ...] = ()

    def notes(self) -> list[tuple[str, str]]:
        """List what was found, and what could not be, each with its word; of a run not judged at all that alone."""
        if len(self.not_judged) == len(REASONS):
            return [("not judged", "")]
        return [(word.replace("_", " "), code) for word, codes in self._asdict().items() for code in codes]

    def meanings(self) -> list[tuple[str, str]]:
        """List the notes, each with what it means in words."""
        return [
            (word, f"{code}: {REASONS[code].meaning}" if code else "no probe late enough")
            for word, code in self.notes()
        ]

    def words(self) -> list[str]:
        """Put the notes in words that fit a table's cell, one phrase for each of the five."""
        found: dict[str, list[str]] = {}
        for word, code in self.notes():
            found.setdefault(word, []).extend([REASONS[code].short] if code else [])
        joint = {"not judged": " whether "}  # a reader takes "not judged: sums off 1" for a finding
        return [
            f"{word}{joint.get(word, ': ')}{', '.join(shorts)}" if shorts else word
            for word, shorts in found.items()
        ]


@once
def verdict(run: Run) -> Verdict:
    """Judge a run that has ended."""
    if run.state not in ENDED:
        return Verdict()
    known = {**run.config, "train": {**run.config["train"], "steps": run.steps}}
    return judge(run.gains, run.metrics, known, run.manifest.get("nature") or {})


def judge(
    gains: pd.DataFrame,
    metrics: pd.DataFrame,
    config: Mapping[str, Any],
    nature: Mapping[str, bool],
    limits: Limits = LIMITS,
) -> Verdict:
    """Judge by the gains and metrics tables; a baseline (n = 1) has nothing to judge.

    `nature` is what no measurement can tell: whether the rows and columns of H_res are meant to sum to 1
    (`doubly_stochastic`), and whether nothing tells the streams apart at the start, so that what separates them is
    rounding (`exchangeable`).
    """
    arm, steps = config["connection"], config["train"]["steps"]
    late = gains[gains["step"] >= max(1, int(np.ceil(limits.judged_after * steps)))]
    if arm["n"] == 1:
        return Verdict()
    told = {code: nature.get(code, False) for code in TOLD}
    if late.empty:
        known = any(told.values())
        return _sorted({code: told.get(code) if known else None for code in REASONS}, arm)
    moving = steps >= limits.shortest

    def below(column: str, limit: float) -> bool | None:
        return _all_below(late[column], limit) if column in late else None

    separated, alike = below("spread", limits.spread) if moving else None, nature.get("exchangeable")
    fixed = {
        "h_res_identity": below("distance_identity", limits.distance),
        "h_res_uniform": below("distance_uniform", limits.distance),
    }
    settled = any(fixed.values())
    h_res = np.stack(late["h_single"].to_list()) if "h_single" in late else None
    corners = None if h_res is None else np.minimum(np.abs(h_res), np.abs(1 - h_res))
    vertex = False if settled else _all_below(corners, limits.vertex)
    moves = _moves(gains, late) if moving and h_res is not None else None
    found = {
        "streams_never_separated": alike or (separated if separated or alike is False else None),
        **fixed,
        "h_res_saturated": vertex,
        "h_res_frozen": False if settled or vertex else _all_below(moves, limits.moved),
        "gates_saturated": below("gate_slope", limits.slope),
        "connection_gradients_dead": _without_gradient(metrics, limits),
        OFF: not settled and _off_the_constraint(late, nature.get("doubly_stochastic"), limits),
        **told,
    }
    return _sorted(found, arm)


def _sorted(found: Mapping[str, bool | None], arm: Mapping[str, Any]) -> Verdict:
    """Make a verdict of what holds, does not, and could not be judged (None)."""
    expects = [*arm["expects"], "columns_exact", *(["h_res_identity"] if "mix" in arm["freeze"] else [])]
    faults = [code for code, holds in found.items() if holds and code not in expects]
    kinds = dict.fromkeys(reason.kind for reason in REASONS.values())
    return Verdict(
        **{kind: tuple(code for code in faults if REASONS[code].kind == kind) for kind in kinds},
        control=tuple(code for code, holds in found.items() if holds and code in expects),
        not_judged=tuple(code for code, holds in found.items() if holds is None),
    )


def _all_below(values: pd.Series | NDArray[np.float64] | None, limit: float) -> bool | None:
    """Say whether no number of `values` reaches the limit; None where there is no number, which is no pass."""
    known = np.empty(0) if values is None else np.asarray(values)
    known = known[~np.isnan(known)]
    return bool((known < limit).all()) if known.size else None


def _moves(gains: pd.DataFrame, late: pd.DataFrame) -> NDArray[np.float64]:
    start = gains[gains["step"] == gains["step"].min()].set_index("layer")["h_single"]
    late = late[late["layer"].isin(start.index)]  # a model may leave out sub-layers in training
    now = np.stack(late["h_single"].to_list())
    before = np.stack(start.loc[late["layer"]].to_list())
    moves: NDArray[np.float64] = np.linalg.norm(now - before, axis=1)
    return moves


def _without_gradient(metrics: pd.DataFrame, limits: Limits) -> bool | None:
    if not {"grad/norm_connection", "grad/norm_body"} <= {*metrics}:
        return None
    rows = metrics[metrics["step"] >= 1]
    return _all_below(rows["grad/norm_connection"] / rows["grad/norm_body"], limits.gradient)


def _off_the_constraint(late: pd.DataFrame, meant: bool | None, limits: Limits) -> bool | None:
    if meant is False:
        return False
    recorded = {"row_error", "column_error"} <= {*late}
    if meant is None or not (recorded or "h_single" in late):
        return None
    off = late[["row_error", "column_error"]].max(axis=1) if recorded else _least_error(late)
    # One outlier is no verdict: the worst sub-layer of half the probes must be off.
    worst = off.groupby(late["step"]).max().median()
    missed = None if np.isnan(worst) else bool(worst > limits.residual)
    return missed if recorded or missed else None


def _least_error(late: pd.DataFrame) -> pd.Series:
    """Say how far sums are off at the least: those of the token means, in which tokens may cancel."""
    means = np.stack(late["h_single"].to_list())
    means = means.reshape(len(means), int(np.sqrt(means.shape[-1])), -1)
    sums = np.concatenate([means.sum(1), means.sum(2)], axis=1)
    return pd.Series(np.abs(sums - 1).max(axis=1), late.index)
