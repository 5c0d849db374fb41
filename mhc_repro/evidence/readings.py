"""How a number is read from what a run recorded; NaN where it was not. What is shown says the ledger."""

from collections.abc import Callable
from functools import partial
from math import inf, nan

import numpy as np
import pandas as pd

from mhc_repro.evidence.spikes import WINDOW, spikes
from mhc_repro.runs import Run

PRINTED_EVERY = 20  # the enwik8 reproduction prints its iterations 0, 20, 40, ...
UNDISTURBED = 0.05  # of a run's steps, as good as alone on the machine; the median tells of its neighbours
COMPOSITE = ("gain/composite_forward", "gain/composite_backward")
BITS_OF = {split: (f"bpc/{split}", f"bpb/{split}") for split in ("test", "val")}  # of tokens: per byte


class Recorded:
    """A run's metrics in the parts that quantities are read from; values that were not measured are left out."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.whole = run.metrics.set_index("step")
        self.steps = self.whole[self.whole.index >= 1]
        self.printed = self.steps[(self.steps.index - 1) % PRINTED_EVERY == 0]
        self.judged = self.steps[self.steps.index > WINDOW]  # what the spike rule judges


Read = Callable[[Recorded], float]


def column(frame: pd.DataFrame, key: str) -> pd.Series:
    """Read the measured values of a metric; empty when the run has none."""
    return frame[key].dropna() if key in frame else pd.Series(dtype=float)


def over(part: str, key: str, how: str) -> Read:
    """Reduce a column of a part of the metrics: by `max`, `min`, `mean` or `median`."""
    return lambda recorded: getattr(column(getattr(recorded, part), key), how)()


median = partial(over, "judged", how="median")  # over the steps that the spike rule judges


def largest(*keys: str) -> Read:
    """Read the largest value that any of some columns had."""
    return lambda recorded: float(recorded.whole.reindex(columns=keys).max().max())


def at_end(*keys: str) -> Read:
    """Read the last value of a column, the first of some that there is."""

    def read(recorded: Recorded) -> float:
        found = (column(recorded.whole, key) for key in keys)
        return next((_last(series) for series in found if len(series)), nan)

    return read


def bits_at_start(run: Run, split: str) -> float:
    """Read the bits per symbol of a split before the first step."""
    before = run.metrics[run.metrics["step"] == 0]
    return next((_last(found) for key in BITS_OF[split] if len(found := column(before, key))), nan)


def finished(part: str) -> Read:
    """Read the last training loss of a part; a run that diverged has none."""
    return lambda recorded: (
        _last(column(getattr(recorded, part), "loss/train")) if recorded.run.state == "finished" else nan
    )


def _last(series: pd.Series) -> float:
    return float(series.iloc[-1]) if len(series) else nan


def held_out(recorded: Recorded) -> float:
    """Read the last bits per symbol of the test set, else of validation; infinite for a run that diverged."""
    if recorded.run.state == "diverged":
        return inf
    return at_end(*BITS_OF["test"], *BITS_OF["val"])(recorded)


def _in_clip(recorded: Recorded) -> pd.Series:
    """Say of each step whether its gradient was clipped; empty where that was not recorded."""
    if not len(column(recorded.steps, "grad/clipped")):
        return pd.Series(dtype=bool)
    norms = recorded.steps[["grad/norm", "grad/clipped"]].dropna(subset="grad/norm")
    # of an infinite norm the clip leaves no number
    return norms["grad/norm"] > 1.001 * norms["grad/clipped"].fillna(0)


def clipped(recorded: Recorded) -> float:
    """Read how many steps in a hundred had their gradient clipped."""
    return 100 * float(_in_clip(recorded).mean())


def clip_by_maps(recorded: Recorded) -> float:
    """Read what part of the clipped squared norm was the gradient of the maps, in per cent, mean of such steps."""
    in_clip = _in_clip(recorded)
    maps, norm = (column(recorded.steps, f"grad/{name}") for name in ("norm_connection", "norm"))
    share = (maps / norm).reindex(in_clip.index[in_clip]) ** 2
    return 100 * float(share[np.isfinite(share)].mean())


def lost(part: str) -> Read:
    """Read what the validation loss gains when a part of the sub-layers falls silent at the end."""
    return lambda recorded: at_end(f"ablation/{part}")(recorded) - at_end("loss/val")(recorded)


def spike_count(key: str) -> Read:
    """Count the steps in which a column spikes by `mhc_repro.evidence.spikes`, among those that it judges."""

    def read(recorded: Recorded) -> float:
        # not through column(): a loss that is NaN was measured, and counts
        steps = recorded.steps
        if key.startswith("grad/") and "grad/skipped" in steps:
            steps = steps[steps["grad/skipped"] != 1]  # float16: its scale was tried, and was too large
        if recorded.run.own and len(column(steps, key)) < len(steps):
            return nan  # of a model of one's own it was measured now and then
        judged = key in steps and (len(steps) > WINDOW or not np.isfinite(steps[key]).all())
        return float(np.sum(spikes(steps[key]))) if judged else nan

    return read


def composite_end(recorded: Recorded) -> float:
    """Read the composite gain of the last probe, the larger of its two directions."""
    return _last(recorded.whole.reindex(columns=list(COMPOSITE)).max(axis=1).dropna())


def from_identity(at: int) -> Read:
    """Read the distance of H_res from I at a probe, median over sub-layers; of one stream there is none."""

    def read(recorded: Recorded) -> float:
        gains = recorded.run.gains
        if recorded.run.n == 1 or "distance_identity" not in gains:
            return nan
        return float(gains.groupby("step")["distance_identity"].median().iloc[at])

    return read


def undisturbed(recorded: Recorded) -> float:
    """Read the seconds of a step of which hardly one was faster: what a step takes alone on the machine."""
    return float(column(recorded.steps, "time/step").quantile(UNDISTURBED))
