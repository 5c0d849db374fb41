"""Held-out losses of a study's arms against baseline, HC and mHC, paired by seed, once there are seeds enough.

Arms of a seed share body weights, batches and masks, so what a seed moves in both cancels: these intervals are
narrower than the arms' own, and it is they that say whether a difference outlasts the seed.
"""

from collections.abc import Iterator, Sequence
from math import nan

import pandas as pd

from mhc_repro.analysis import labels, stats
from mhc_repro.analysis.arms import BASELINE, style
from mhc_repro.analysis.comparison import EXPECTED, Comparison
from mhc_repro.analysis.summary import held_out
from mhc_repro.analysis.tables import cells

TITLE = "Paired by seed"
CAPTION = (
    "Held-out bits per character at the end minus those of another arm with the same seed, body weights and "
    "batches: below zero, the arm of the row has the lower loss. Finished runs; mean over seeds ± half-width of "
    "the 95 % t interval, each for itself: where nothing differs, one in twenty leaves zero out by chance."
)


def part(comparisons: Sequence[Comparison]) -> str:
    """Write the README's part: the table, its caption and where it comes from; a line while seeds are too few."""
    frame = table(comparisons)
    if frame.empty:
        return f"*Study `{comparisons[0].study}`: fewer than {stats.FEWEST} seeds have finished.*"
    return f"{cells.markdown(frame)}\n\n{CAPTION} {labels.provenance(comparisons)}"


def table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Lay out a row for each arm that shares three seeds or more with baseline, HC or mHC, as finished text."""
    rows = [row for comparison in comparisons for row in _rows(comparison)]
    frame = pd.DataFrame(rows, dtype=object)
    return frame if any(row["setting"] for row in rows) else frame.drop(columns="setting", errors="ignore")


def _rows(comparison: Comparison) -> Iterator[dict[str, str]]:
    bits = {
        arm: {run.seed: held_out(run.metrics)[0] for run in runs if run.state == "finished"}
        for arm, runs in comparison.arms.items()
    }
    for arm, own in bits.items():
        others = [other for other in EXPECTED if other in bits and other != arm]
        gaps = {other: stats.paired(own, bits[other]) for other in others}
        if arm != BASELINE and max(map(len, gaps.values()), default=0) >= stats.FEWEST:
            yield {
                "setting": comparison.setting,
                "arm": style(arm).label,
                "seeds": str(len(own)),
                **{
                    f"− {style(other).label}": cells.cell(
                        [gaps.get(other, {}).get(seed, nan) for seed in own], decimals=3
                    )
                    for other in EXPECTED
                },
            }
