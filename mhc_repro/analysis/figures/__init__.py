"""The figures of a study: which there are, of what, under which caption, in which file.

The bench's figure (`scaling`) is called by name, and those of the notebooks stand beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from matplotlib.figure import Figure as Drawing

from mhc_repro import arm_files
from mhc_repro.analysis.figures import depth, details, heard, mappings, moved, rates, training
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.heard import measured
from mhc_repro.evidence.styles import BASELINE
from mhc_repro.evidence.sweeps import MAPS_LR, SWEPT, drawn, sweeps
from mhc_repro.places import FIGURES

Draw = Callable[[Comparison], Drawing]

GAP = "loss-gap"  # to a baseline, where there is one
# of every comparison: end of the file's name, caption, drawing
OF_EACH: tuple[tuple[str, str, Draw], ...] = (
    ("training", training.TRAINING, training.training),
    ("gain-by-layer", training.GAIN_BY_LAYER, training.gain_by_layer),
    (GAP, training.LOSS_GAP, training.loss_gap),
    ("mappings", mappings.CAPTION, mappings.mappings),
    ("details", details.CAPTION, details.details),
)
HEARD: tuple[tuple[str, str, Draw], ...] = (  # of what recorded its depth kernel
    ("kernel", heard.KERNEL, heard.kernel),
    ("late-share", heard.SHARES, heard.shares),
    ("ablation", heard.ABLATION, heard.ablation),
)
OF_FAMILIES = OF_EACH[:2]  # where many arms are drawn by family: pictures are heavy
MANY = 10  # arms, more than which a figure cannot show


class Figure(NamedTuple):
    """A figure of the report, which `draw(comparison)` makes."""

    name: str
    caption: str
    draw: Draw
    comparison: Comparison

    @property
    def path(self) -> str:
        """Where it is, as seen from the results root."""
        return f"{FIGURES}/{self.comparison.slug}-{self.name}.svg"


def of_study(comparisons: Sequence[Comparison]) -> list[Figure]:
    """List the figures of a study, those over all its settings first."""
    swept = depth.by_depth(comparisons)
    found = [Figure(depth.NAME, depth.CAPTION, depth.gain_by_depth, swept)] if swept else []
    for key in SWEPT:
        over_rates = rates.NAMES[key], rates.caption(key), partial(rates.rates, key=key)
        found += [Figure(*over_rates, sweep.whole) for sweep in sweeps(comparisons, key)]
    for sweep in sweeps(comparisons, MAPS_LR):
        if main_arms(sweep.whole.study)[0] in sweep.whole.arms:
            found.append(Figure(moved.NAME, moved.CAPTION, moved.moved, sweep.whole))
    for comparison in drawn(comparisons):
        wanted = OF_FAMILIES if len(comparison.arms) > MANY else OF_EACH
        wanted = tuple(each for each in wanted if each[0] != GAP or BASELINE in comparison.arms)
        for part in families(comparison):
            heard_of = HEARD if measured(part.runs) else ()  # the runs of before it was recorded have none
            found += [Figure(*each, part) for each in (*wanted, *heard_of)]
    return found


def families(comparison: Comparison) -> list[Comparison]:
    """Split what has too many arms for a figure by family, each beside the first and the last of the main arms."""
    if len(comparison.arms) <= MANY:
        return [comparison]
    reference, _, ours = main_arms()
    family = {arm: about.family for arm, about in arm_files.abouts().items()}
    found: dict[str, set[str]] = {}
    for arm in comparison.arms:
        found.setdefault(family.get(arm.partition(",")[0], "new"), set()).add(arm)
    return [
        replace(
            comparison,
            setting=", ".join(filter(None, [comparison.setting, name])),
            arms={arm: runs for arm, runs in comparison.arms.items() if arm in {reference, ours, *members}},
        )
        for name, members in found.items()
    ]
