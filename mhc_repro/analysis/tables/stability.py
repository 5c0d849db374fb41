"""The tables of a study: what the enwik8 reproduction prints, arm by arm, what outlasts a seed."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from statistics import fmean

import pandas as pd

from mhc_repro.analysis import labels, printed
from mhc_repro.analysis.tables import cells, differences, rates
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.ledger import LEDGER, of, values
from mhc_repro.evidence.readings import PRINTED_EVERY
from mhc_repro.evidence.spikes import WINDOW
from mhc_repro.evidence.styles import rank, style
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

PUBLISHED_TITLE = "As the enwik8 reproduction prints them"
PUBLISHED_CAPTION = (
    f"Training loss and gradient norm (all parameters, before clipping) at every {PRINTED_EVERY}th step, on "
    "the batch of that step. The final loss is the last of these; a burst of the gradient between them is not in "
    "it, and its largest norm is often that of step 1, where arms that start as the baseline all have the same. "
    "Activation gain is max|last activation| / max|first activation| at every probe (published protocol: in train "
    "mode, on the batch just trained on). It is not the gain of H_res."
)
STABILITY_TITLE = "Arm by arm"
STABILITY_CAPTION = (
    "Held-out bits per character on the test windows, at the end (val: last validation before divergence; "
    "under the published protocol no text is held out, and these windows are trained on). Body gradient "
    f"norm: before clipping, without the connections' own parameters, from step {WINDOW + 1} on, since the largest "
    "of all are those of the start and of warm-up. Steps clipped: of all. Composite gain (amax) of "
    "the H_res products, largest over sub-layers and probes; a residual baseline has exactly 1. Spikes: "
    f"steps more than 6 sigma above the mean of the {WINDOW} before them, less what stands out of these itself (so "
    f"the first {WINDOW} cannot be judged), in loss and in body gradient norm, mean over the runs. "
    f"{printed.SEVERAL}"
)
HEARD_TITLE = "Which end of the depth is heard"
HEARD_CAPTION = (
    f"{cells.KERNEL} Early share: of the first quarter. Outputs the readout hears: so many, were all equally "
    "loud. Lost: by how many nats the validation loss rises when these sub-layers fall silent. "
    "Jacobian: how far a small change of a token's embedding moves what the head reads there, both relative to "
    "their size. Attention logit: largest of the training. Clip by maps: the maps' share of the squared gradient "
    "norm, mean over clipped steps; it alone of these is a matter of basis, as the norm of the maps' gradient "
    "is."
)


PUBLISHED = ("loss_final", "loss_min", "grad_mean", "grad_max", "activation_mean", "activation_max")
STABILITY = (
    *("grad_body_median", "grad_body_max", "clipped", "composite_forward", "composite_backward"),
    *cells.BESIDE_GAIN,
)
BRIEF = ("composite_forward", "composite_backward")
HEARD = (
    *("late_share", "early_share", "effective", "cancellation", "lost_last_quarter", "lost_last_half"),
    *("jacobian_random", "jacobian_worst", "logit_max", "clip_by_maps"),
)
Write = Callable[[Sequence[Run]], str]


@dataclass(frozen=True)
class Row:
    """An arm in one setting."""

    setting: str
    arm: str
    runs: list[Run]  # one a seed; none if the arm has not been run


@dataclass(frozen=True)
class Table:
    """Finished text under a title, over a caption."""

    title: str
    frame: pd.DataFrame
    caption: str


def tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Build the tables of a study: grids first where it sweeps rates, differences where there are seeds enough."""
    found = rows(comparisons)
    answers = stability_columns(found)
    known = LEDGER[cells.BESIDE_GAIN[0]].label in answers
    grids = [
        Table(title, rates.table(comparisons, key), rates.caption(key)) for key, title in rates.TITLES.items()
    ]
    every = [
        *grids,
        Table(STABILITY_TITLE, answers, STABILITY_CAPTION + (f" {cells.KERNEL}" if known else "")),
        Table(differences.TITLE, differences.table(comparisons), differences.CAPTION),
        *([Table(HEARD_TITLE, _frame(found, _shown(*HEARD)), HEARD_CAPTION)] if known else []),
        Table(PUBLISHED_TITLE, _frame(found, _shown(*PUBLISHED)), PUBLISHED_CAPTION),
    ]
    return [each for each in every if not each.frame.empty]


def pieces(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Write the tables of a study, each between its title and its caption."""
    for each in tables(comparisons):
        yield from (f"**{each.title}**", cells.markdown(each.frame), each.caption)


def brief(comparisons: Sequence[Comparison]) -> str:
    """Write what answers the question at a glance, alone: the columns are explained under the full part."""
    columns = {LEDGER["bpc"].label: cells.held_out_bpc} | _shown(*BRIEF) | {"status": _status}
    frame = _frame(rows(comparisons), columns).drop(columns="seeds")
    return f"{cells.markdown(frame, aligned=False)}\n\n{labels.provenance(comparisons)}"


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Make a row of every arm and setting; the arms that a study is about have one even without a run."""
    found = []
    for comparison in comparisons:
        arms = dict(comparison.arms)
        if not any(run.own for run in comparison.runs):
            names = {arm.partition(",")[0] for arm in arms}
            arms |= {arm: [] for arm in main_arms(comparison.study) if arm not in names}
        found += [Row(comparison.setting, arm, arms[arm]) for arm in sorted(arms, key=rank)]
    return found


def stability_columns(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the columns that say whether an arm is stable, learns, and at what cost."""
    own = {"spikes a run (loss + gradient)": _spikes, "status": _status}
    frame = _frame(rows, {LEDGER["bpc"].label: cells.held_out_bpc} | _shown(*STABILITY) | own)
    return cells.without_unknown(frame, *(LEDGER[name].label for name in cells.BESIDE_GAIN))


def _shown(*names: str) -> dict[str, Write]:
    return {LEDGER[name].label: partial(cells.shown, name=name) for name in names}


def _frame(rows: Sequence[Row], columns: dict[str, Write]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            [row.setting, style(row.arm).label, str(len(row.runs) or printed.DASH)]
            + [read(row.runs) for read in columns.values()]
            for row in rows
        ],
        columns=["setting", "arm", "seeds", *columns],
        dtype=object,
    )
    return cells.without_unknown(frame, "setting")


def _spikes(runs: Sequence[Run]) -> str:
    known = [run for run in runs if not isnan(values(run)["loss_spikes"])]
    if not known:
        return printed.DASH
    decimals = int(len(known) > 1)
    counts = (fmean(of(known, name)) for name in ("loss_spikes", "grad_spikes"))
    return " + ".join(printed.DASH if isnan(count) else f"{count:.{decimals}f}" for count in counts)


def _status(runs: Sequence[Run]) -> str:
    if not runs:
        return "no run"

    def counted(words: list[str]) -> list[str]:
        return [
            word if count == len(runs) else f"{word} (×{count})" for word, count in Counter(words).items()
        ]

    return "; ".join(
        counted(list(map(labels.status, runs)))
        + counted([words for run in runs for words in verdict(run).words()])
    )
