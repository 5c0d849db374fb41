"""Loss beside gain: held-out losses of HC, mHC and two controls against the baseline's, paired by seed.

Arms of a seed share body weights, batches and masks, and what these move in both arms cancels (how much that is,
`stats.pairing_correlation` says). Studies that train the same nets share a row.
"""

from collections.abc import Collection
from math import nan

import pandas as pd
from msgspec.structs import asdict

from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.evidence import stats
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies, joined
from mhc_repro.evidence.ledger import by_seed
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

EMPTY = "No study has runs of the main arms of one seed that ended yet: `make quick` makes the first."
CAPTION = (
    "Held-out bits per character at the end, of arms that share seed, body weights and batches: below zero, the "
    "first has the lower loss. Gain: composite, over sub-layers and both directions, the largest of the training "
    "and the one at its end. Identity: mHC's reads and writes with H_res = I. Quarter: a plain net, x + F(x)/4. A "
    "run that diverged has an infinite loss, and of its gain what a probe saw before: 1.000 if that is the start. "
    "†: a run is off the constraint. "
    f"{printed.SEVERAL} *Every setting in which the three arms have ended. Regenerate: `make report`.*"
)


def part(studies: Studies) -> str:
    """Write a page's part: the table and its caption."""
    frame = table(studies)
    if frame.empty:
        return EMPTY
    kernel = f" {cells.KERNEL}" if beside() & {*frame} else ""
    return f"{cells.markdown(frame)}\n\n{CAPTION}{kernel}"


def table(studies: Studies) -> pd.DataFrame:
    """Lay out a row for each setting in which all three arms of a seed have ended, as finished text.

    The longest trainings come first.
    """
    settings = sorted(joined(studies), key=lambda each: -each.kind.tokens)
    found = [(each, paired_runs(each)) for each in settings]
    frame = pd.DataFrame([row(*each) for each in found if each[1][main_arms()[0]]], dtype=object)
    return cells.without_unknown(frame, *beside())


def paired_runs(comparison: Comparison) -> dict[str, dict[int, Run]]:
    """Keep the runs of each arm by seed that ended, for the seeds in which all three main arms have."""
    ended = {arm: comparison.ended(arm) for arm in (*main_arms(), *asdict(chosen().controls).values())}
    seeds = [seed for seed in comparison.seeds if all(seed in ended[arm] for arm in main_arms())]
    return {arm: {seed: runs[seed] for seed in seeds if seed in runs} for arm, runs in ended.items()}


def gaps() -> dict[str, tuple[str, str]]:
    """Name the columns of differences: two arms each."""
    reference, one, other = main_arms()
    arms = ((one, reference), (other, reference), (other, one))
    return {f"{style(ours).label} − {style(base).label}": (ours, base) for ours, base in arms}


def of_gain(arm: str, runs: Collection[Run]) -> dict[str, str]:
    """Print the largest gain of an arm's runs, and what stands beside it; asked with no runs for its headings."""
    whose, gain = _whose(arm), cells.shown(runs, "composite")
    mark = " †" if any(verdict(run).off_the_constraint for run in runs) else ""
    return {f"{whose}gain": f"{gain}{mark}", **cells.beside_gain(runs, whose)}


def beside() -> set[str]:
    """Name the columns that stand beside a gain, which old runs do not have."""
    return {name for arm in main_arms()[1:] for name in cells.beside_gain([], _whose(arm))}


def row(comparison: Comparison, found: dict[str, dict[int, Run]]) -> dict[str, str]:
    """Write a setting's differences and gains."""
    bits = {arm: by_seed(of_seed, "bpc") for arm, of_seed in found.items()}
    reference, one, other = main_arms()

    def gap(arm: str, base: str) -> str:
        known = stats.paired(bits[arm], bits[base])
        return printed.cell([known.get(seed, nan) for seed in found[reference]], decimals=3)

    return {
        "study": comparison.name,
        "sub-layers": str(comparison.kind.layers),
        "dim": str(comparison.kind.dim),
        "tokens": comparison.kind.length,
        "peak rate": f"{comparison.runs[0].config['optim']['lr']:g}",
        style(reference).label: printed.cell(list(bits[reference].values()), decimals=3),
        **{name: gap(*arms) for name, arms in gaps().items()},
        **{f"{word} − {reference}": gap(arm, reference) for word, arm in asdict(chosen().controls).items()},
        **of_gain(one, found[one].values()),
        f"{_whose(one)}gain at the end": cells.shown(found[one].values(), "composite_end"),
        **of_gain(other, found[other].values()),
    }


def _whose(arm: str) -> str:
    return f"{style(arm).label}'s "
