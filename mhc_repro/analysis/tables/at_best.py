"""Every arm of a study at the better of the rates it was run at, paired by seed to the baseline at its own.

The better rate is the one with the lowest mean validation loss over the seeds that all of the arm's rates have; one
that diverged in a seed has an infinite loss. What another study trained of the same nets, at the study's
rates and of its seeds, counts where the study has no run of its own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from mhc_repro.analysis import labels, printed
from mhc_repro.analysis.tables import cells, differences, overhead
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison, Studies, by_study
from mhc_repro.evidence.ledger import by_seed
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.evidence.sweeps import LR, Sweep, completed, rate
from mhc_repro.runs import ENDED

CAPTION = (
    "Each arm at the better of the study's rates, by its mean validation loss over the seeds in which it was "
    "run at both (alone: run at no other); for a run that the study lacks another study's of the same net "
    "counts. Bits: held-out, a character, at the end. Differences are from the baseline at its own better "
    f"rate, of the same seeds, with the 95 % t interval from {stats.FEWEST} on; {differences.MARK}: it leaves "
    f"zero out; brackets: seeds in which the arm is lower. From fewer than {stats.FEWEST} seeds no order of "
    "arms follows. Gain: largest composite gain of a run, forward / backward; of arms that keep earlier states "
    "or outputs it counts all that is kept. Step: times the baseline's, by the bench."
)


def part(of_study: Sequence[Comparison], studies: Studies, root: Path) -> str:
    """Write a page's part: the table, its caption and where it comes from."""
    costs, source = overhead.costs(root)
    caption = f"{CAPTION} {cells.KERNEL} {printed.SEVERAL}"
    found = completed(of_study, studies, LR)
    from_studies = by_study([run for each in found for run in each.whole.runs])
    made = [labels.provenance(from_studies[name]) for name in from_studies]
    return "\n\n".join([cells.markdown(table(found, costs)), caption, *made, *source])


def table(found: Sequence[Sweep], costs: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Lay out a row for each arm, as finished text; what has not been run or measured is a dash."""
    rows = [row for each in found for row in _rows(each, costs)]
    return cells.without_unknown(pd.DataFrame(rows, dtype=object), "setting")


def _rows(sweep: Sweep, costs: dict[str, dict[str, float]]) -> Iterator[dict[str, str]]:
    whole = sweep.whole
    found = {arm: sweep.at_one_rate(arm) for arm in whole.arms}
    base = by_seed(found.get(BASELINE, {}), "bpc")
    for arm, of_seed in found.items():
        runs, own = list(of_seed.values()), by_seed(of_seed, "bpc")
        gaps = [] if arm == BASELINE else list(stats.paired(own, base).values())
        tried = {rate(run, LR) for run in whole.arms[arm] if run.state in ENDED}
        chosen = f"{rate(runs[0], LR):g}{'' if len(tried) > 1 else ' alone'}" if runs else printed.DASH
        yield {
            "setting": whole.setting,
            "arm": style(arm).label,
            "rate": chosen,
            "seeds": str(len(runs)),
            "bits": printed.cell(list(own.values()), 3),
            "− baseline": differences.difference(gaps) if gaps else printed.DASH,
            "gain": cells.gain(runs),
            **cells.beside_gain(runs),
            "step": overhead.times_baseline(arm, costs, "step_ratio"),
        }
