"""Which of the recorded runs a notebook reads, said so that it can print it.

A notebook is executed again whenever runs have been added, so it asks for the best there is.
"""

from collections.abc import Sequence
from dataclasses import replace

from mhc_repro.errors import UserError
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.runs import ENDED


def choose(studies: Studies) -> Comparison:
    """Choose the first study to read, and its last setting, whose main arms have ended for one seed.

    UserError when there is none.
    """
    for name in chosen().read:
        for comparison in reversed(studies.get(name, [])):
            if all(arm in one_seed(comparison).arms for arm in main_arms()):
                return comparison
    arms, known = ", ".join(main_arms()), ", ".join(chosen().read)
    raise UserError(
        f"no study ({known}) has {arms} of one seed to the end; make quick trains them in minutes"
    )


def fullest(comparisons: Sequence[Comparison], arms: Sequence[str]) -> Comparison | None:
    """Keep what has ended of these arms in the setting that has most of them, the last of equals; None if none."""
    kept = [ended(each, *arms) for each in reversed(comparisons)]
    best = max(kept, key=lambda each: len(one_seed(each).arms), default=None)
    return best if best and best.runs else None


def missing(comparison: Comparison | None, arms: Sequence[str]) -> list[str]:
    """List the arms of which no run has ended."""
    there = () if comparison is None else one_seed(comparison).arms
    return [arm for arm in arms if arm not in there]


def ended(comparison: Comparison, *arms: str) -> Comparison:
    """Keep the runs that have ended, of these arms or of all; an arm without one is left out."""
    kept = {
        arm: [run for run in runs if run.state in ENDED]
        for arm, runs in comparison.arms.items()
        if not arms or arm in arms
    }
    return replace(comparison, arms={arm: runs for arm, runs in kept.items() if runs})


def one_seed(comparison: Comparison, *arms: str) -> Comparison:
    """Keep the ended runs of one seed, of these arms or of all: the first seed that most of the arms have."""
    kept = ended(comparison, *arms)
    have = [run.seed for run in kept.runs]
    seed = max(kept.seeds, key=have.count, default=None)  # the first of equals, and seeds ascend
    found = {arm: [run for run in runs if run.seed == seed] for arm, runs in kept.arms.items()}
    return replace(kept, arms={arm: runs for arm, runs in found.items() if runs})
