"""A study's arms against baseline, HC and mHC, paired by seed, once there are seeds enough for intervals.

Arms of a seed share body weights, batches and masks, so what a seed moves alike in both cancels. That is much for
HC and next to nothing for mHC (column r), whose intervals are as wide as those of unpaired runs. Either way it is
these that say whether a difference outlasts the seed.
"""

from collections.abc import Iterator, Sequence
from math import isnan

import pandas as pd

from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.evidence import stats
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.evidence.styles import BASELINE, style

TITLE = "Paired by seed"
MARK = "§"
CAPTION = (
    "Held-out bits per character at the end minus those of another arm with the same seed, body weights and "
    "batches: below zero, the arm of the row has the lower loss, in brackets in how many seeds. Mean over seeds "
    f"± half-width of the 95 % t interval; {MARK}: it leaves zero out. Each interval is for itself: where nothing "
    "differs, one in twenty does so by chance. A run that diverged has an infinite loss, and its pairs no "
    "interval; a pair of which both did says nothing. "
    "r: correlation of the arm's losses with the baseline's over the seeds; near 1 what a seed moves cancels in "
    "the difference, near 0 it does not, and pairing gains nothing. Gradient norm: median over the steps after "
    "128, before clipping, over the baseline's of the same seed; it and the composite gain, largest in either "
    "direction, as median (smallest to largest) of the seeds. Gradient spikes: of the body, a run, minus the "
    "baseline's in the same seeds."
)


def table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Lay out a row for each arm that shares two seeds with another it is measured by, as finished text."""
    rows = [row for each in comparisons for row in _rows(each)]
    frame = pd.DataFrame(rows, dtype=object).fillna(printed.DASH)
    return cells.without_unknown(frame, *frame)


def difference(gaps: Sequence[float]) -> str:
    """Write the paired differences: mean and interval, whether it leaves zero out, how many seeds are below."""
    known = [gap for gap in gaps if not isnan(gap)]
    text, between = printed.cell(known, decimals=3), stats.interval(known)
    if isnan(between.mean):
        return text
    return f"{text}{f' {MARK}' if between.side() else ''} ({sum(gap < 0 for gap in known)} of {len(known)})"


def _rows(comparison: Comparison) -> Iterator[dict[str, str]]:
    if len(comparison.seeds) < stats.FEWEST:
        return
    found = {
        arm: {seed: values(run) for seed, run in comparison.ended(arm).items()} for arm in comparison.arms
    }
    bits = {arm: {seed: each["bpc"] for seed, each in of.items()} for arm, of in found.items()}
    baseline = found.get(BASELINE, {})
    others = [arm for arm in main_arms(comparison.study) if arm in found]
    for arm, own in found.items():
        with_baseline = [(own[seed], baseline[seed]) for seed in own if seed in baseline]
        gaps = {
            other: list(stats.paired(bits[arm], bits[other]).values()) if other != arm else []
            for other in others
        }
        if arm == BASELINE or max(map(len, gaps.values()), default=0) < 2:
            continue
        yield {
            "setting": comparison.setting,
            "arm": style(arm).label,
            "seeds": str(len(own)),
            **{f"− {style(other).label}": difference(gap) for other, gap in gaps.items()},
            "r": printed.number(stats.pairing_correlation(bits[arm], bits.get(BASELINE, {})), 2),
            "gradient norm (× baseline)": printed.ranged(
                [stats.ratio(each["grad_median"], of["grad_median"]) for each, of in with_baseline],
                decimals=2,
            ),
            "gradient spikes (− baseline)": printed.cell(
                [each["grad_spikes"] - of["grad_spikes"] for each, of in with_baseline], decimals=1
            ),
            LEDGER["composite"].label: cells.shown(comparison.ended(arm).values(), "composite"),
            **cells.beside_gain(comparison.ended(arm).values()),
        }
