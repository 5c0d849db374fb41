"""A study's arms against baseline, HC and mHC, paired by seed, once there are seeds enough for intervals.

Arms of a seed share body weights, batches and masks, so what a seed moves in both cancels: these intervals are
narrower than the arms' own, and it is they that say whether a difference outlasts the seed.
"""

from collections.abc import Iterator, Sequence
from math import isfinite, nan

import pandas as pd

from mhc_repro.analysis import labels, stats
from mhc_repro.analysis.arms import BASELINE, style
from mhc_repro.analysis.comparison import EXPECTED, EXPECTED_IN, Comparison
from mhc_repro.analysis.summary import summarise
from mhc_repro.analysis.tables import cells

TITLE = "Paired by seed"
MARK = "†"
CAPTION = (
    "Held-out bits per character at the end minus those of another arm with the same seed, body weights and "
    "batches: below zero, the arm of the row has the lower loss, in brackets in how many seeds. Mean over seeds "
    f"± half-width of the 95 % t interval; {MARK}: it leaves zero out. Each interval is for itself: where nothing "
    "differs, one in twenty does so by chance. A run that diverged has an endless loss, and its pairs no "
    "interval. Gradient norm: median over the steps after 128, before clipping, over the baseline's of the same "
    "seed; it and the composite gain, largest in either direction, as median (smallest to largest) of the seeds."
)


def part(comparisons: Sequence[Comparison]) -> str:
    """Write the README's part: the table, its caption and where it comes from; a line while seeds are too few."""
    frame = table(comparisons)
    if frame.empty:
        study = comparisons[0].study
        return f"*Study `{study}`: no two arms have ended with {stats.FEWEST} seeds in common.*"
    return f"{cells.markdown(frame)}\n\n{CAPTION} {labels.provenance(comparisons)}"


def table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Lay out a row for each arm that shares three seeds with another it is measured by, as finished text."""
    rows = [row for each in comparisons for row in _rows(each)]
    frame = pd.DataFrame(rows, dtype=object).fillna(cells.DASH)
    empty = [name for name in frame if set(frame[name]) <= {"", cells.DASH}]
    return frame.drop(columns=empty)


def difference(gaps: Sequence[float]) -> str:
    """Write the paired differences: mean and interval, whether it leaves zero out, how many seeds are below."""
    text = cells.cell(gaps, decimals=3)
    if len(gaps) < stats.FEWEST or not all(map(isfinite, gaps)):
        return text
    mean, half = stats.t_interval(gaps)
    return f"{text}{f' {MARK}' if abs(mean) > half else ''} ({sum(gap < 0 for gap in gaps)} of {len(gaps)})"


def _rows(comparison: Comparison) -> Iterator[dict[str, str]]:
    if len(comparison.seeds) < stats.FEWEST:
        return
    found = {
        arm: {seed: summarise(run) for seed, run in comparison.ended(arm).items()} for arm in comparison.arms
    }
    bits = {arm: {seed: each.final_bpc for seed, each in of.items()} for arm, of in found.items()}
    gradients = {seed: each.grad_median for seed, each in found.get(BASELINE, {}).items()}
    others = [arm for arm in EXPECTED_IN.get(comparison.study, EXPECTED) if arm in found]
    for arm, own in found.items():
        gaps = {
            other: list(stats.paired(bits[arm], bits[other]).values()) if other != arm else []
            for other in others
        }
        if arm == BASELINE or max(map(len, gaps.values()), default=0) < stats.FEWEST:
            continue
        yield {
            "setting": comparison.setting,
            "arm": style(arm).label,
            "seeds": str(len(own)),
            **{f"− {style(other).label}": difference(gap) for other, gap in gaps.items()},
            "gradient norm (× baseline)": cells.ranged(
                [each.grad_median / gradients.get(seed, nan) for seed, each in own.items()], decimals=2
            ),
            "max composite gain": cells.ranged([each.composite_max for each in own.values()]),
        }
