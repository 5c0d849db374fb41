"""The numbers of one run that the tables print, each reduced from the run's own series.

A number that would need the end of a run is missing (NaN) until the run has finished. A diverged run
keeps what was measured before it diverged.
"""

from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import numpy as np
import pandas as pd

from mhc_repro.evidence.arms import BASELINE
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.spikes import WINDOW, spikes
from mhc_repro.evidence.stats import ratio
from mhc_repro.evidence.verdicts import Verdict, verdict
from mhc_repro.runs import ENDED, Run

PRINTED_EVERY = 20  # the enwik8 reproduction prints its iterations 0, 20, 40, ...
UNDISTURBED = 0.05  # of a run's steps, as good as alone on the machine; the median tells of its neighbours


@dataclass(frozen=True)
class Summary:
    """One run as the tables see it; every number is NaN when missing."""

    seed: int
    state: str
    progress: str  # "130/160"
    verdict: Verdict
    # as the enwik8 reproduction prints them: every 20th step, train batches
    loss_final: float = nan
    loss_min: float = nan
    grad_mean: float = nan
    grad_max: float = nan
    activation_mean: float = nan
    activation_max: float = nan
    # what answers the question
    bpc: float = nan
    bpc_split: str = ""  # test | val
    grad_median: float = nan  # over the steps that the spike rule judges, as the next two
    grad_body_median: float = nan
    grad_body_max: float = nan
    clipped: float = nan  # part of all steps
    composite_forward_max: float = nan
    composite_backward_max: float = nan
    loss_spikes: float = nan
    grad_spikes: float = nan
    step_seconds: float = nan
    step_ratio: float = nan  # to the baseline of the same seed

    @property
    def final_bpc(self) -> float:
        """Held-out bits per character at the end; a run that diverged has lost everything."""
        return inf if self.state == "diverged" else self.bpc

    @property
    def composite_max(self) -> float:
        """Largest composite gain of the training, in either direction."""
        return max(self.composite_forward_max, self.composite_backward_max)


def summarise(run: Run) -> Summary:
    """Reduce one run; of an unfinished one only its state is said, since its numbers will still change."""
    status = run.status
    head: dict[str, Any] = {
        "seed": run.seed,
        "state": run.state,
        "progress": f"{status.get('step', 0)}/{run.config['train']['steps']}",
        "verdict": verdict(run),
    }
    if run.state not in ENDED:
        return Summary(**head)
    rows = run.metrics.set_index("step")
    steps = rows[rows.index >= 1]
    printed = steps[(steps.index - 1) % PRINTED_EVERY == 0]
    judged = steps[steps.index > WINDOW]
    activation = column(rows, "gain/activation")
    bpc, split = held_out(rows)
    loss = column(printed, "loss/train")
    return Summary(
        **head,
        loss_final=float(loss.iloc[-1]) if run.state == "finished" and len(loss) else nan,
        loss_min=float(loss.min()),
        grad_mean=float(column(printed, "grad/norm").mean()),
        grad_max=float(column(printed, "grad/norm").max()),
        activation_mean=float(activation.mean()),
        activation_max=float(activation.max()),
        bpc=bpc,
        bpc_split=split,
        grad_median=float(column(judged, "grad/norm").median()),
        grad_body_median=float(column(judged, "grad/norm_body").median()),
        grad_body_max=float(column(judged, "grad/norm_body").max()),
        clipped=_clipped(steps),
        composite_forward_max=float(column(rows, "gain/composite_forward").max()),
        composite_backward_max=float(column(rows, "gain/composite_backward").max()),
        loss_spikes=_spikes(steps, "loss/train"),
        grad_spikes=_spikes(steps, "grad/norm_body"),
        step_seconds=float(column(steps, "time/step").quantile(UNDISTURBED)),
    )


def summaries(comparison: Comparison) -> dict[str, list[Summary]]:
    """Summarise every run of a comparison by arm, with its step time relative to the baseline's."""
    found = {arm: [summarise(run) for run in runs] for arm, runs in comparison.arms.items()}
    reference = {summary.seed: summary.step_seconds for summary in found.get(BASELINE, [])}
    return {
        arm: [
            replace(each, step_ratio=ratio(each.step_seconds, reference.get(each.seed, nan)))
            for each in of_arm
        ]
        for arm, of_arm in found.items()
    }


def column(frame: pd.DataFrame, key: str) -> pd.Series:
    """Read the measured values of a metric; empty when the run has none."""
    return frame[key].dropna() if key in frame else pd.Series(dtype=float)


def held_out(rows: pd.DataFrame) -> tuple[float, str]:
    """Give bits per character on the test split, or the last on validation, and which it is."""
    for split in ("test", "val"):
        values = column(rows, f"bpc/{split}")
        if len(values):
            return float(values.iloc[-1]), split
    return nan, ""


def _clipped(steps: pd.DataFrame) -> float:
    if not len(column(steps, "grad/clipped")):
        return nan
    norms = steps[["grad/norm", "grad/clipped"]].dropna(subset="grad/norm")
    # of an infinite norm the clip leaves no number
    return float((norms["grad/norm"] > 1.001 * norms["grad/clipped"].fillna(0)).mean())


def _spikes(steps: pd.DataFrame, key: str) -> float:
    # not through column(): a loss that is NaN was measured, and counts
    judged = key in steps and (len(steps) > WINDOW or not np.isfinite(steps[key]).all())
    return float(np.sum(spikes(steps[key]))) if judged else nan
