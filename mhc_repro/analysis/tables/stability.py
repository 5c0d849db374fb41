"""The tables of a study: what the enwik8 reproduction prints, what answers the question, what outlasts a seed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean

import pandas as pd
from rich import box, table

from mhc_repro.analysis import labels
from mhc_repro.analysis.tables import cells, differences
from mhc_repro.evidence.arms import rank, style
from mhc_repro.evidence.comparison import EXPECTED, EXPECTED_IN, Comparison
from mhc_repro.evidence.spikes import WINDOW
from mhc_repro.evidence.summary import PRINTED_EVERY, Summary, summaries

PUBLISHED_TITLE = "As the enwik8 reproduction prints them"
PUBLISHED_CAPTION = (
    f"Training loss and gradient norm (all parameters, before clipping) at every {PRINTED_EVERY}th step, on "
    "the batch of that step. The final loss is the last of these; a burst of the gradient between them is not in "
    "it, and its largest norm is often that of step 1, where arms that start as the baseline all have the same. "
    "Activation gain is max|last activation| / max|first activation| at every probe (published protocol: in train "
    "mode, on the batch just trained on). It is not the gain of H_res."
)
STABILITY_TITLE = "What answers the question"
STABILITY_CAPTION = (
    "Held-out bits per character on the test windows, at the end (val: last validation before divergence; "
    "under the published protocol no text is held out, and these windows are trained on). Body gradient "
    f"norm: before clipping, without the connections' own parameters, from step {WINDOW + 1} on, since the largest "
    "of all are those of the start and of warm-up. Steps clipped: of all. Composite amax gain of "
    "the H_res products, largest over sub-layers and probes; a residual baseline has exactly 1. Spikes: "
    f"steps more than 6 sigma above the mean of the {WINDOW} before them, less what stands out of these itself (so "
    f"the first {WINDOW} cannot be judged), in loss and in body gradient norm, mean over the runs. Step time: "
    "fifth percentile of a run's steps, those that shared "
    "the machine least, over the baseline's of the same seed; of runs that shared it unequally it means nothing, "
    f"and the bench measures it properly. {cells.SEVERAL}"
)


@dataclass(frozen=True)
class Row:
    """An arm in one setting."""

    setting: str
    arm: str
    runs: list[Summary]  # one a seed; none if the arm has not been run


@dataclass(frozen=True)
class Table:
    """Finished text under a title, over a caption."""

    title: str
    frame: pd.DataFrame
    caption: str


def tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """Build the tables of a study, the paired differences once there are seeds enough."""
    found, paired = rows(comparisons), differences.table(comparisons)
    return [
        Table(STABILITY_TITLE, stability_columns(found), STABILITY_CAPTION),
        Table(PUBLISHED_TITLE, published_columns(found), PUBLISHED_CAPTION),
        *([] if paired.empty else [Table(differences.TITLE, paired, differences.CAPTION)]),
    ]


def part(comparisons: Sequence[Comparison]) -> str:
    """Write the README's part: the tables of a study with their captions, where they come from."""
    pieces = [
        piece
        for each in tables(comparisons)
        for piece in (f"**{each.title}**", cells.markdown(each.frame), each.caption)
    ]
    return "\n\n".join([*pieces, labels.provenance(comparisons)])


def brief(comparisons: Sequence[Comparison]) -> str:
    """Write the table that answers the question, alone: its columns are explained under the full part."""
    frame = stability_columns(rows(comparisons))
    return f"{cells.markdown(frame)}\n\n{labels.provenance(comparisons)}"


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Make a row of every arm and setting; the arms that every study is about have one even without a run."""
    found = []
    for comparison in comparisons:
        arms: dict[str, list[Summary]] = dict(summaries(comparison))
        names = {arm.partition(",")[0] for arm in arms}
        expected = EXPECTED_IN.get(comparison.study, EXPECTED)
        arms |= {arm: [] for arm in expected if arm not in names}
        found += [Row(comparison.setting, arm, arms[arm]) for arm in sorted(arms, key=rank)]
    return found


def published_columns(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the columns of the enwik8 reproduction's own table."""
    return _frame(
        rows,
        {
            "final loss (nats)": lambda runs: cells.cell([run.loss_final for run in runs], decimals=3),
            "min loss (nats)": lambda runs: cells.cell([run.loss_min for run in runs], decimals=3),
            "avg grad norm": lambda runs: cells.ranged([run.grad_mean for run in runs]),
            "max grad norm": lambda runs: cells.ranged([run.grad_max for run in runs]),
            "avg activation gain": lambda runs: cells.ranged([run.activation_mean for run in runs]),
            "max activation gain": lambda runs: cells.ranged([run.activation_max for run in runs]),
        },
    )


def stability_columns(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the columns that say whether an arm is stable, learns, and at what cost."""
    return _frame(
        rows,
        {
            "held-out bpc": held_out_bpc,
            "median body grad norm": lambda runs: cells.ranged([run.grad_body_median for run in runs]),
            "max body grad norm": lambda runs: cells.ranged([run.grad_body_max for run in runs]),
            "steps clipped (%)": lambda runs: cells.ranged([100 * run.clipped for run in runs], decimals=0),
            "max composite gain, fwd": lambda runs: cells.ranged([run.composite_forward_max for run in runs]),
            "max composite gain, bwd": lambda runs: cells.ranged(
                [run.composite_backward_max for run in runs]
            ),
            "spikes a run (loss + gradient)": _spikes,
            "step time (× baseline)": lambda runs: cells.ranged([run.step_ratio for run in runs], decimals=2),
            "status": _status,
        },
    )


def console(shown: Table) -> table.Table:
    """Lay a table out for a terminal."""
    frame = shown.frame
    printed = table.Table(
        title=shown.title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        collapse_padding=True,
    )
    for name in frame.columns:
        # In a narrow terminal a header may break anywhere, numbers and names only between words.
        word = max(len(each) for cell in frame[name] for each in cell.split())
        left = name in cells.TEXT_COLUMNS
        printed.add_column(str(name), justify="left" if left else "right", overflow="fold", min_width=word)
    for row in frame.itertuples(index=False):
        printed.add_row(*map(str, row))
    return printed


def _frame(rows: Sequence[Row], columns: dict[str, Callable[[list[Summary]], str]]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            [row.setting, style(row.arm).label, str(len(row.runs) or cells.DASH)]
            + [read(row.runs) for read in columns.values()]
            for row in rows
        ],
        columns=["setting", "arm", "seeds", *columns],
        dtype=object,
    )
    return frame if any(row.setting for row in rows) else frame.drop(columns="setting")


def held_out_bpc(runs: list[Summary]) -> str:
    """Write the held-out bits per character of an arm's runs, marked where they are those of validation."""
    # never one mean over two splits: a diverged seed has no test value and counts as missing beside others
    split = "test" if any(run.bpc_split == "test" for run in runs) else "val"
    text = cells.cell([run.bpc if run.bpc_split == split else nan for run in runs], decimals=3)
    return text if split == "test" or text == cells.DASH else f"{text} (val)"


def _spikes(runs: list[Summary]) -> str:
    known = [run for run in runs if not isnan(run.loss_spikes)]
    if not known:
        return cells.DASH
    return " + ".join(
        f"{fmean(values):.{int(len(known) > 1)}f}"
        for values in ([run.loss_spikes for run in known], [run.grad_spikes for run in known])
    )


def _status(runs: list[Summary]) -> str:
    if not runs:
        return "no run"

    def counted(words: list[str]) -> list[str]:
        return [
            word if count == len(runs) else f"{word} (×{count})" for word, count in Counter(words).items()
        ]

    states = [run.state if run.state == "finished" else f"{run.state} at {run.progress}" for run in runs]
    notes = [words for run in runs for words in run.verdict.words()]
    return "; ".join(counted(states) + counted(notes))
