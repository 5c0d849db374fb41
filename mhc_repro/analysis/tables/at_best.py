"""Every arm of a study at the better of the rates it was run at, paired by seed to the baseline at its own.

The better rate is the one with the lowest mean held-out loss over the seeds, of those that have all seeds the arm
has; one that diverged in a seed has an endless loss. Chosen by the losses that are then shown, it favours each arm
by as much as its seeds scatter, the baseline too.
"""

from collections.abc import Sequence
from math import inf, isnan
from pathlib import Path
from statistics import mean

import pandas as pd

from mhc_repro.analysis import labels
from mhc_repro.analysis.tables import cells, differences, overhead
from mhc_repro.evidence import stats
from mhc_repro.evidence.arms import BASELINE, style
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.sweeps import LR, rate
from mhc_repro.runs import ENDED, Run

CAPTION = (
    "Each arm at the better of the study's rates, by its mean over the seeds. Bits: held-out, a character, at the "
    "end. Differences are from the baseline at its own better rate, of the same seeds, with the 95 % t interval "
    f"from {stats.FEWEST} on; {differences.MARK}: it leaves zero out; brackets: seeds in which the arm is below. "
    "Gain: largest composite gain of a run, forward / backward; of arms that keep earlier states or outputs it "
    "counts all that is kept. Step: times the baseline's, by the bench."
)


def part(of_study: Sequence[Comparison], root: Path) -> str:
    """Write a page's part: the table, its caption and where it comes from."""
    costs, source = overhead.costs(root)
    caption = f"{CAPTION} {cells.KERNEL} {cells.SEVERAL}"
    pieces = [cells.markdown(table(of_study, costs)), caption, labels.provenance(of_study), *source]
    return "\n\n".join(pieces)


def at_best(runs: Sequence[Run]) -> tuple[float, dict[int, Run]]:
    """Choose an arm's better rate, and return it with its runs that have ended, by seed."""
    by_rate: dict[float, dict[int, Run]] = {}
    for run in runs:
        by_rate.setdefault(rate(run, LR), {})[run.seed] = run
    most = max(map(len, by_rate.values()))
    whole = {each: of for each, of in by_rate.items() if len(of) == most}
    best = min(sorted(whole), key=lambda each: mean(bits(whole[each]).values()))
    return best, whole[best]


def bits(runs: dict[int, Run]) -> dict[int, float]:
    """Read held-out bits at the end by seed: infinite where a run diverged, or has none."""
    read = {seed: values(run)["bpc"] for seed, run in runs.items()}
    return {seed: inf if isnan(found) else found for seed, found in read.items()}


def table(of_study: Sequence[Comparison], costs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Lay out a row for each arm, as finished text; what has not been run or measured is a dash."""
    ended = [run for each in of_study for run in each.runs if run.state in ENDED]
    found = {arm: at_best(runs) for each in comparisons(ended, swept=LR) for arm, runs in each.arms.items()}
    base = bits(found[BASELINE][1]) if BASELINE in found else {}
    rows = []
    for arm, (best, of_seed) in found.items():
        runs, own = list(of_seed.values()), bits(of_seed)
        gaps = [] if arm == BASELINE else list(stats.paired(own, base).values())
        rows.append(
            {
                "arm": style(arm).label,
                "rate": f"{best:g}",
                "seeds": str(len(runs)),
                "bits": cells.cell(list(own.values()), 3),
                "− baseline": differences.difference(gaps) if gaps else cells.DASH,
                "gain": cells.gain(runs),
                **cells.beside_gain(runs),
                "step": overhead.times_baseline(arm, costs, "step_ratio"),
            }
        )
    return pd.DataFrame(rows, dtype=object)
