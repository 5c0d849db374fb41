"""Loss beside gain: held-out losses of HC, mHC and two controls against the baseline's, paired by seed.

Arms of a seed share body weights, batches and masks, so the difference of two runs says more than either.
"""

from collections.abc import Collection
from math import nan

import pandas as pd

from mhc_repro.analysis import stats
from mhc_repro.analysis.arms import BASELINE
from mhc_repro.analysis.comparison import EXPECTED, Comparison, Studies
from mhc_repro.analysis.composites import DIRECTIONS
from mhc_repro.analysis.summary import column, summarise
from mhc_repro.analysis.tables import cells
from mhc_repro.runs import Run

# mHC's reads and writes without the mixing; x + F(x)/4, to tell what scaling a branch does without streams
IDENTITY, QUARTER = "identity", "baseline_quarter"
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
    """Write the README's part: the table and its caption."""
    frame = table(studies)
    return EMPTY if frame.empty else f"{cells.markdown(frame)}\n\n{CAPTION}"


def table(studies: Studies) -> pd.DataFrame:
    """Lay out a row for each setting in which all three arms of a seed have ended, as finished text.

    The longest trainings come first. A run that two studies hold, as `arms` and `quick` do, counts in one.
    """
    settings = [each for of_study in studies.values() for each in of_study if each.runs]
    rows, seen = [], set[str]()
    for comparison in sorted(settings, key=lambda each: -tokens(each.runs[0])):
        found = paired_runs(comparison, seen)
        if found[BASELINE]:
            rows.append(_row(comparison, found))
            seen |= {run.run_id for runs in found.values() for run in runs.values()}
    return pd.DataFrame(rows, dtype=object)


def paired_runs(comparison: Comparison, seen: Collection[str] = ()) -> dict[str, dict[int, Run]]:
    """Keep the runs of each arm by seed that ended, for the seeds in which baseline, HC and mHC have.

    A seed whose three runs have all been seen is left out.
    """
    ended = {arm: comparison.ended(arm) for arm in (*EXPECTED, IDENTITY, QUARTER)}
    seeds = [
        seed
        for seed in comparison.seeds
        if all(seed in ended[arm] for arm in EXPECTED)
        and not all(ended[arm][seed].run_id in seen for arm in EXPECTED)
    ]
    return {arm: {seed: runs[seed] for seed in seeds if seed in runs} for arm, runs in ended.items()}


def composite_gain(run: Run) -> pd.Series:
    """Read the composite amax gain at every probe: over sub-layers, the larger of forward and backward."""
    sides = [column(run.metrics, f"gain/composite_{direction}") for direction in DIRECTIONS]
    return pd.concat(sides, axis=1).max(axis=1)


def tokens(run: Run) -> int:
    """Count the tokens that a whole training sees."""
    data = run.config["data"]
    return int(run.config["train"]["steps"] * data["batch"] * data["sequence"])


def _row(comparison: Comparison, found: dict[str, dict[int, Run]]) -> dict[str, str]:
    first, *_ = found[BASELINE].values()
    bits = {arm: {seed: summarise(run).final_bpc for seed, run in of.items()} for arm, of in found.items()}
    gain = {arm: [composite_gain(run) for run in runs.values()] for arm, runs in found.items()}

    def gap(arm: str, reference: str) -> str:
        known = stats.paired(bits[arm], bits[reference])
        return cells.cell([known.get(seed, nan) for seed in found[BASELINE]], decimals=3)

    return {
        "study": comparison.name,
        "sub-layers": str(first.layers),
        "dim": str(first.config["model"]["dim"]),
        "tokens": f"{tokens(first) / 1e6:.1f} M",
        "peak rate": f"{first.config['optim']['lr']:g}",
        "baseline": cells.cell(list(bits[BASELINE].values()), decimals=3),
        "HC − baseline": gap("hc", BASELINE),
        "mHC − baseline": gap("mhc", BASELINE),
        "mHC − HC": gap("mhc", "hc"),
        "identity − baseline": gap(IDENTITY, BASELINE),
        "quarter − baseline": gap(QUARTER, BASELINE),
        "HC's gain, largest": cells.ranged([each.max() for each in gain["hc"]]),
        "at the end": cells.ranged([each.iloc[-1] for each in gain["hc"]]),
        "mHC's, largest": cells.ranged([each.max() for each in gain["mhc"]]),
    }
