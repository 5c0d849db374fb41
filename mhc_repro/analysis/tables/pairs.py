"""Loss beside gain: held-out losses of HC, mHC and two controls against the baseline's, paired by seed.

Arms of a seed share body weights, batches and masks, and what these move in both arms cancels (how much that is,
`stats.pairing_correlation` says). Studies that train the same nets share a row.
"""

from math import nan

import pandas as pd

from mhc_repro.analysis.tables import cells
from mhc_repro.evidence import stats
from mhc_repro.evidence.arms import BASELINE
from mhc_repro.evidence.comparison import EXPECTED, Comparison, Studies, joined
from mhc_repro.evidence.ledger import values
from mhc_repro.runs import Run

# mHC's reads and writes without the mixing; x + F(x)/4, to tell what scaling a branch does without streams
IDENTITY, QUARTER = "identity", "baseline_quarter"
KERNEL = {**cells.beside_gain([], "HC's "), **cells.beside_gain([], "mHC's ")}.keys()  # columns
EMPTY = (
    f"No study has runs that ended of {', '.join(EXPECTED)} of one seed yet: `make quick` makes the first."
)
CAPTION = (
    "Held-out bits per character at the end, of arms that share seed, body weights and batches: below zero, the "
    "first has the lower loss. Gain: composite, over sub-layers and both directions, the largest of the training "
    "and the one at its end. Identity: mHC's reads and writes with H_res = I. Quarter: a plain net, x + F(x)/4. A "
    "run that diverged has an endless loss. "
    f"{cells.SEVERAL} *Every setting in which the three arms have ended. Regenerate: `make report`.*"
)


def part(studies: Studies) -> str:
    """Write a page's part: the table and its caption."""
    frame = table(studies)
    if frame.empty:
        return EMPTY
    kernel = f" {cells.KERNEL}" if KERNEL & {*frame} else ""
    return f"{cells.markdown(frame)}\n\n{CAPTION}{kernel}"


def table(studies: Studies) -> pd.DataFrame:
    """Lay out a row for each setting in which all three arms of a seed have ended, as finished text.

    The longest trainings come first.
    """
    settings = sorted(joined(studies), key=lambda each: -each.kind.tokens)
    found = [(each, paired_runs(each)) for each in settings]
    frame = pd.DataFrame([row(*each) for each in found if each[1][BASELINE]], dtype=object)
    return cells.without_unknown(frame, *KERNEL)


def paired_runs(comparison: Comparison) -> dict[str, dict[int, Run]]:
    """Keep the runs of each arm by seed that ended, for the seeds in which baseline, HC and mHC have."""
    ended = {arm: comparison.ended(arm) for arm in (*EXPECTED, IDENTITY, QUARTER)}
    seeds = [seed for seed in comparison.seeds if all(seed in ended[arm] for arm in EXPECTED)]
    return {arm: {seed: runs[seed] for seed in seeds if seed in runs} for arm, runs in ended.items()}


def row(comparison: Comparison, found: dict[str, dict[int, Run]]) -> dict[str, str]:
    bits = {arm: {seed: values(run)["bpc"] for seed, run in of.items()} for arm, of in found.items()}

    def gap(arm: str, reference: str) -> str:
        known = stats.paired(bits[arm], bits[reference])
        return cells.cell([known.get(seed, nan) for seed in found[BASELINE]], decimals=3)

    return {
        "study": comparison.name,
        "sub-layers": str(comparison.kind.layers),
        "dim": str(comparison.kind.dim),
        "tokens": comparison.kind.length,
        "peak rate": f"{comparison.runs[0].config['optim']['lr']:g}",
        "baseline": cells.cell(list(bits[BASELINE].values()), decimals=3),
        "HC − baseline": gap("hc", BASELINE),
        "mHC − baseline": gap("mhc", BASELINE),
        "mHC − HC": gap("mhc", "hc"),
        "identity − baseline": gap(IDENTITY, BASELINE),
        "quarter − baseline": gap(QUARTER, BASELINE),
        "HC's gain, largest": cells.shown(found["hc"].values(), "composite"),
        "at the end": cells.shown(found["hc"].values(), "composite_end"),
        **cells.beside_gain(found["hc"].values(), "HC's "),
        "mHC's, largest": cells.shown(found["mhc"].values(), "composite"),
        **cells.beside_gain(found["mhc"].values(), "mHC's "),
    }
