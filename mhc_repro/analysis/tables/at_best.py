"""Every arm of a study at the better of the rates it was run at, paired by seed to the baseline at its own.

The better rate is the one with the lowest mean validation loss over the seeds, of those that have all seeds the arm
has; one that diverged in a seed has an infinite loss.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from mhc_repro.analysis import labels
from mhc_repro.analysis.tables import cells, differences, overhead
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.ledger import by_seed
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.evidence.sweeps import LR, Sweep, rate
from mhc_repro.runs import ENDED

CAPTION = (
    "Each arm at the better of the study's rates, by its mean validation loss over the seeds (alone: run at no "
    "other yet). Bits: held-out, a character, at the end. Differences are from the baseline at its own better "
    f"rate, of the same seeds, with the 95 % t interval from {stats.FEWEST} on; {differences.MARK}: it leaves zero "
    f"out; brackets: seeds in which the arm is lower. From fewer than {stats.FEWEST} seeds no order of arms "
    "follows. Gain: largest composite gain of a run, forward / backward; of arms that keep earlier states or "
    "outputs it counts all that is kept. Step: times the baseline's, by the bench."
)


def part(of_study: Sequence[Comparison], root: Path) -> str:
    """Write a page's part: the table, its caption and where it comes from."""
    costs, source = overhead.costs(root)
    caption = f"{CAPTION} {cells.KERNEL} {cells.SEVERAL}"
    pieces = [cells.markdown(table(of_study, costs)), caption, labels.provenance(of_study), *source]
    return "\n\n".join(pieces)


def table(of_study: Sequence[Comparison], costs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Lay out a row for each arm, as finished text; what has not been run or measured is a dash."""
    whole = comparisons([run for one in of_study for run in one.runs], swept=LR)
    rows = [row for each in whole for row in _rows(each, costs)]
    return cells.without_unknown(pd.DataFrame(rows, dtype=object), "setting")


def _rows(whole: Comparison, costs: dict[str, dict[str, float]]) -> Iterator[dict[str, str]]:
    found = {arm: Sweep(LR, whole).at_one_rate(arm) for arm in whole.arms}
    base = by_seed(found.get(BASELINE, {}), "bpc")
    for arm, of_seed in found.items():
        runs, own = list(of_seed.values()), by_seed(of_seed, "bpc")
        gaps = [] if arm == BASELINE else list(stats.paired(own, base).values())
        tried = {rate(run, LR) for run in whole.arms[arm] if run.state in ENDED}
        if runs:
            yield {
                "setting": whole.setting,
                "arm": style(arm).label,
                "rate": f"{rate(runs[0], LR):g}{'' if len(tried) > 1 else ' alone'}",
                "seeds": str(len(runs)),
                "bits": cells.cell(list(own.values()), 3),
                "− baseline": differences.difference(gaps) if gaps else cells.DASH,
                "gain": cells.gain(runs),
                **cells.beside_gain(runs),
                "step": overhead.times_baseline(arm, costs, "step_ratio"),
            }
