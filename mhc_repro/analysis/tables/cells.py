"""What stands in the cells of every table: the quantities of runs as finished text, and the table as text."""

import re
from collections.abc import Collection, Iterable
from math import isnan

import pandas as pd
from tabulate import tabulate

from mhc_repro.analysis.printed import DASH, cell, ranged
from mhc_repro.evidence.composites import DIRECTIONS
from mhc_repro.evidence.ledger import LEDGER, of
from mhc_repro.runs import Run

BESIDE_GAIN = ("late_share", "cancellation")  # of the ledger: what no basis moves, where it was measured
KERNEL = (
    "Late share: of the last quarter of the sub-layers in what the readout reads at the end. C: the largest sum of "
    "relative sizes in what a sub-layer reads; 1: all points one way, √N: N equal outputs at right angles, more: "
    "they cancel. Unlike the gain, these are no matter of basis."
)
NUMBER = re.compile(rf"[-+≈≤≥ ]*(\d|inf\b)|{DASH}|$")  # what a cell begins with that is one, or holds none


def shown(runs: Collection[Run], name: str, decimals: int | None = None) -> str:
    """Print a quantity of an arm's runs, as the ledger says, or with other decimals."""
    quantity = LEDGER[name]
    digits = quantity.decimals if decimals is None else decimals
    return (cell if quantity.mean else ranged)(of(runs, name), digits)


def gain(runs: Collection[Run]) -> str:
    """Print the largest composite gain of an arm's runs, forward / backward."""
    return " / ".join(shown(runs, f"composite_{way}") for way in DIRECTIONS) if runs else DASH


def held_out_bpc(runs: Collection[Run]) -> str:
    """Print the held-out bits per character of an arm's runs, marked where they are those of validation."""
    # never one mean over two splits: a diverged seed has no test value and counts as missing beside others
    if not all(map(isnan, of(runs, "bpc_test"))):
        return shown(runs, "bpc_test")
    text = shown(runs, "bpc_val")
    return text if text == DASH else f"{text} (val)"


def beside_gain(runs: Collection[Run], whose: str = "") -> dict[str, str]:
    """Print late share and C of an arm's runs under their labels, which may say `whose` they are."""
    return {f"{whose}{LEDGER[name].label}": shown(runs, name) for name in BESIDE_GAIN}


def without_unknown(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Drop those of some columns that hold nothing, or nothing but dashes."""
    return frame.drop(columns=[name for name in columns if name in frame and set(frame[name]) <= {"", DASH}])


def words(column: Iterable[str]) -> bool:
    """Say whether a column holds words, which are set to the left; of numbers alone it is set to the right."""
    return not all(map(NUMBER.match, column))


def markdown(frame: pd.DataFrame, aligned: bool = True) -> str:
    """Print as a GitHub table: text to the left, numbers to the right; `aligned` or in fewest bytes."""
    escaped = frame.map(lambda text: text.replace("|", "\\|"))
    printed = tabulate(
        escaped.to_numpy().tolist(),
        headers=list(frame.columns),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if words(frame[name]) else "right" for name in frame.columns],
    )
    return printed if aligned else re.sub(r" +(?= )|(?<=--)-+", "", printed)
