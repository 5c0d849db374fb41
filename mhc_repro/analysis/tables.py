"""The stability table, in two halves that a README can show: as published, and what answers the question.

Cells are finished text: one seed is printed as its value, two as both values, three or more as mean ±
half-width of the 95 % t interval; a dash is something that was not measured, never an old number.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

import pandas as pd
from rich import box
from rich.table import Table
from tabulate import tabulate

from mhc_repro.analysis import stats, theme
from mhc_repro.analysis.comparison import EXPECTED, Comparison, rank
from mhc_repro.analysis.summary import PRINTED_EVERY, Summary, summaries

DASH = "–"
WORDS = ("setting", "quantity", "arm", "status")  # columns of text, set to the left; the others are numbers

REASONS = {  # the codes of measurement.guards, short enough for a cell
    "streams_never_separated": "streams never separated",
    "h_res_identity": "H_res = I",
    "h_res_uniform": "H_res = J/n",
    "h_res_saturated": "H_res saturated",
    "h_res_frozen": "H_res never moved",
    "gates_saturated": "gates saturated",
    "constraint_missed": "sums of H_res off 1",
    "connection_gradients_dead": "dead connection gradients",
}

PUBLISHED_TITLE = "As the enwik8 reproduction prints them"
PUBLISHED_CAPTION = (
    f"Training loss and gradient norm (all parameters, before clipping) at every {PRINTED_EVERY}th step, on "
    "the batch of that step; activation gain is max|last activation| / max|first activation| at every probe. "
    "It is not the gain of H_res."
)
STABILITY_TITLE = "What answers the question"
STABILITY_CAPTION = (
    "Held-out bits per character on the test windows, at the end (val: last validation before divergence). "
    "Body gradient norm over every step, before clipping, without the connections' own parameters. Composite "
    "amax gain of the H_res products, largest over sub-layers and probes; a residual baseline has exactly 1. "
    "Spikes: steps more than 6 sigma above the mean of the 128 before them (so the first 128 cannot be judged), "
    "in loss + in gradient norm, all seeds. "
    "Step time: fifth percentile of a run's steps, those that shared the machine least, over the baseline's of "
    "the same seed; the bench measures it properly."
)


@dataclass(frozen=True)
class Row:
    setting: str
    arm: str
    runs: list[Summary]  # one a seed; none if the arm has not been run


@dataclass(frozen=True)
class Half:
    title: str
    frame: pd.DataFrame
    caption: str


def halves(comparisons: Sequence[Comparison]) -> list[Half]:
    """Build the stability table of a study."""
    found = rows(comparisons)
    return [
        Half(PUBLISHED_TITLE, as_published(found), PUBLISHED_CAPTION),
        Half(STABILITY_TITLE, stability(found), STABILITY_CAPTION),
    ]


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """One row an arm and setting; the arms that every study is about have one even without a run."""
    found = []
    for comparison in comparisons:
        arms: dict[str, list[Summary]] = dict(summaries(comparison))
        names = {arm.partition(",")[0] for arm in arms}
        arms |= {arm: [] for arm in EXPECTED if arm not in names}
        found += [Row(comparison.setting, arm, arms[arm]) for arm in sorted(arms, key=rank)]
    return found


def as_published(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the columns of the enwik8 reproduction's own table."""
    return _frame(
        rows,
        {
            "final loss (nats)": lambda runs: cell([run.loss_final for run in runs], decimals=3),
            "min loss (nats)": lambda runs: cell([run.loss_min for run in runs], decimals=3),
            "avg grad norm": lambda runs: cell([run.grad_mean for run in runs]),
            "max grad norm": lambda runs: cell([run.grad_max for run in runs]),
            "avg activation gain": lambda runs: cell([run.activation_mean for run in runs]),
            "max activation gain": lambda runs: cell([run.activation_max for run in runs]),
        },
    )


def stability(rows: Sequence[Row]) -> pd.DataFrame:
    """Build the columns that say whether an arm is stable, learns, and at what cost."""
    return _frame(
        rows,
        {
            "held-out bpc": _bpc,
            "max body grad norm": lambda runs: cell([run.grad_body_max for run in runs]),
            "max composite gain, fwd": lambda runs: cell([run.composite_forward_max for run in runs]),
            "max composite gain, bwd": lambda runs: cell([run.composite_backward_max for run in runs]),
            "spikes": _spikes,
            "step time (× baseline)": lambda runs: cell([run.step_ratio for run in runs], decimals=2),
            "status": _status,
        },
    )


def cell(values: Sequence[float], decimals: int | None = None) -> str:
    """Print the values of the seeds: one, both, or mean ± t interval; say how many when some are missing."""
    known = [value for value in values if not isnan(value)]
    if not known:
        return DASH
    if len(known) < stats.FEWEST or not all(map(isfinite, known)):
        text = " / ".join(number(value, decimals) for value in known)
    else:
        mean, half = (float(part) for part in stats.t_interval(known))
        places = _places(mean) if decimals is None else decimals
        text = f"{number(mean, places)} ± {number(half, places)}"
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def number(value: float, decimals: int | None = None) -> str:
    """Print a number with fixed decimals, or with about four digits."""
    if not isfinite(value):
        return DASH if isnan(value) else f"{value:g}"
    if decimals is None and not 1e-3 <= abs(value) < 1e6 and value:
        return f"{value:.2e}"
    return f"{value:,.{_places(value) if decimals is None else decimals}f}"


def markdown(frame: pd.DataFrame) -> str:
    """Print as a GitHub table: text to the left, numbers to the right."""
    escaped = frame.map(lambda text: text.replace("|", "\\|"))
    return tabulate(
        escaped.to_numpy().tolist(),
        headers=list(frame.columns),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if name in WORDS else "right" for name in frame.columns],
    )


def console(half: Half) -> Table:
    """Lay the same table out for a terminal."""
    frame = half.frame
    table = Table(
        title=half.title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False
    )
    for name in frame.columns:
        table.add_column(str(name), justify="left" if name in WORDS else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*map(str, row))
    return table


def _frame(rows: Sequence[Row], columns: dict[str, Callable[[list[Summary]], str]]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            [row.setting, theme.style(row.arm).label, str(len(row.runs) or DASH)]
            + [read(row.runs) for read in columns.values()]
            for row in rows
        ],
        columns=["setting", "arm", "seeds", *columns],
        dtype=object,
    )
    return frame if any(row.setting for row in rows) else frame.drop(columns="setting")


def _places(value: float) -> int:
    return 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0


def _bpc(runs: list[Summary]) -> str:
    # never one mean over two splits: a diverged seed has no test value and counts as missing beside others
    split = "test" if any(run.bpc_split == "test" for run in runs) else "val"
    text = cell([run.bpc if run.bpc_split == split else float("nan") for run in runs], decimals=3)
    return text if split == "test" or text == DASH else f"{text} (val)"


def _spikes(runs: list[Summary]) -> str:
    known = [run for run in runs if not isnan(run.loss_spikes)]
    if not known:
        return DASH
    return f"{sum(run.loss_spikes for run in known):.0f} + {sum(run.grad_spikes for run in known):.0f}"


def _status(runs: list[Summary]) -> str:
    if not runs:
        return "no run"

    def counted(words: list[str]) -> list[str]:
        return [
            word if count == len(runs) else f"{word} (×{count})" for word, count in Counter(words).items()
        ]

    states = [run.state if run.state == "finished" else f"{run.state} at {run.progress}" for run in runs]
    notes = [f"{kind}: {REASONS.get(code, code)}" for run in runs for kind, code in run.notes]
    return "; ".join(counted(states) + counted(notes))
