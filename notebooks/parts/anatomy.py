"""Anatomy of the enwik8 reproduction's table: what its "amax gain" is, and what its mHC arm is.

Its ratio max|last activation| / max|first activation| contains the branches. Its mHC arm starts all streams and
all maps alike, so that by symmetry no map has a gradient, and it stays the plain residual net with branches
times 1/n for ever: arm `baseline_quarter`. Tables here and `anatomy_figures` put the two beside each other.
"""

from collections.abc import Sequence
from contextlib import suppress
from math import nan

import numpy as np
import pandas as pd

from mhc_repro.analysis import labels
from mhc_repro.analysis.selection import choose, fullest, one_seed
from mhc_repro.analysis.tables.published import quartered
from mhc_repro.errors import UserError
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.evidence.composites import matrices
from mhc_repro.evidence.curves import gaps
from mhc_repro.evidence.published import load
from mhc_repro.evidence.readings import column
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

STUDY = "published"
_, HC, MHC = main_arms(STUDY)
QUARTER = chosen().controls.quarter
ARMS = (BASELINE, HC, MHC, QUARTER)
TWINS = (BASELINE, MHC, QUARTER)  # whose losses are compared


def published_and_ours(comparison: Comparison | None) -> pd.DataFrame:
    """Put the published numbers beside those of one seed of `comparison`: a row a quantity, NaN without a run."""
    found = {} if comparison is None else one_seed(comparison).arms
    ours = {arm: run for arm, (run,) in found.items()}
    table = {}
    for quantity in load()["reproduction"].quantities.values():
        row = {}
        for quoted, arm in (*zip(main_arms(), main_arms(STUDY), strict=True), (None, QUARTER)):
            label = style(arm).label
            if quoted:
                row[label, "published"] = quantity.published[quoted]
            row[label, "here"] = quantity.of(ours[arm]) if arm in ours else nan
        table[quantity.name] = row
    return pd.DataFrame.from_dict(table, orient="index")


def prediction(comparison: Comparison | None) -> pd.DataFrame:
    """Predict the mHC arm's activation ratio from the baseline's, as published and here; NaN without a run."""
    table = published_and_ours(comparison)
    baseline, mhc, quarter = (style(arm).label for arm in (BASELINE, MHC, QUARTER))
    rows = {}
    for name in (name for name in table.index if "amax gain" in name):
        for place in ("published", "here"):
            ratio = table.loc[name, (baseline, place)]
            rows[name, place] = {
                "baseline": ratio,
                "1 + (baseline − 1)/4": quartered(ratio),
                "mHC arm": table.loc[name, (mhc, place)],
                "baseline, F/4": table.loc[name, (quarter, "here")] if place == "here" else nan,
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def state_of_arms(comparison: Comparison | None) -> str:
    """Say of every arm how far its run came, or that there is none."""
    found = {} if comparison is None else one_seed(comparison).arms
    lines = [labels.title(comparison) if comparison else f"study {STUDY}: nothing recorded"]
    for arm in ARMS:
        state = f"no run yet; make study STUDY={STUDY} makes it"
        if arm in found:
            (run,) = found[arm]
            state = f"{run.state}, {run.status['step']} of {run.status['steps']} steps"
            state = "; ".join([state, *verdict(run).words()])
        lines.append(f"  {style(arm).label}: {state}")
    return "\n".join(lines)


def twin_losses(comparison: Comparison | None) -> str:
    """Say how far the mHC arm's losses are from those of the baseline with branches / 4, and of the baseline."""
    arms = {} if comparison is None else one_seed(comparison, *TWINS).arms
    lines = []
    for reference in (QUARTER, BASELINE):
        names = f"{style(MHC).label} against {style(reference).label}"
        apart = "one of the two has no run yet"
        for gap in gaps(arms.get(MHC, []), arms.get(reference, []), "loss/train").values():
            most, mean = gap.abs().max(), gap.abs().mean()
            apart = f"at most {most:.1e} nats apart in {len(gap)} batches, {mean:.1e} on average"
        lines.append(f"{names}: {apart}")
    return "\n".join(lines)


def with_streams(studies: Studies) -> list[Run]:
    """Collect the published arms with streams and, for contrast, HC and mHC of the largest other study."""
    ours = fullest(studies.get(STUDY, []), ARMS)
    runs = one_seed(ours, HC, MHC).runs if ours else []
    with suppress(UserError):  # there may be no other study
        runs = runs + one_seed(choose(studies), *main_arms()[1:]).runs
    return runs


def symmetry(runs: Sequence[Run]) -> pd.DataFrame:
    """Say of runs with streams whether the streams ever differ and whether the maps tell them apart.

    Each the largest over the run: spread of the streams; gradient norm of the connections over the body's;
    distance of an entry of H_res from a I + b J, the matrices that treat all streams alike.
    """
    rows = {
        (run.study, style(run.connection).label): {
            "spread of the streams": column(run.metrics, "streams/spread").max(),
            "gradient of the maps": gradient(run).max(),
            "H_res off a I + b J": max(asymmetry(matrices(run, step)) for step in run.gains["step"].unique()),
        }
        for run in runs
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["study", "arm"])
    return pd.DataFrame(list(rows.values()), index=index)


def asymmetry(h_res: np.ndarray) -> float:
    """Give the largest |entry| of H - (a I + b J) with the best a and b: (..., n, n) with n > 1 -> one number."""
    diagonal = np.eye(h_res.shape[-1], dtype=bool)
    inside, outside = h_res[..., diagonal], h_res[..., ~diagonal]
    rests = (part - part.mean(-1, keepdims=True) for part in (inside, outside))
    return float(max(np.abs(rest).max() for rest in rests))


def gradient(run: Run) -> pd.Series:
    """Give the gradient norm of the connections over the body's, by step."""
    steps = run.metrics.set_index("step")
    return (column(steps, "grad/norm_connection") / column(steps, "grad/norm_body")).dropna()
