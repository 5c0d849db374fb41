"""What stands in the cells of every table: finished text, and a dash for what was not measured.

One seed is printed as its value, two as both values. Of three or more, losses are printed as mean ± half-width of
the 95 % t interval; what is positive and may lie orders of magnitude apart, such as a gain, as median and range.
"""

import re
from collections.abc import Collection, Sequence
from math import inf, isfinite, isnan
from statistics import median

import pandas as pd
from tabulate import tabulate

from mhc_repro.evidence import stats
from mhc_repro.evidence.composites import DIRECTIONS
from mhc_repro.evidence.ledger import LEDGER, of
from mhc_repro.runs import Run

DASH = "–"
SEVERAL = (
    "Two values are two seeds; of three or more, losses are mean ± half-width of the 95 % t interval, all else is "
    "median (smallest to largest)."
)
BESIDE_GAIN = ("late_share", "cancellation")  # of the ledger: what no basis moves, where it was measured
KERNEL = (
    "Late share: of the last quarter of the sub-layers in what the readout reads at the end. C: the largest sum of "
    "relative sizes in what a sub-layer reads; 1: all points one way, √N: N equal outputs at right angles, more: "
    "they cancel. Unlike the gain, these are no matter of basis."
)
# set to the left; the others are numbers
TEXT_COLUMNS = (
    *("study", "asks", "setting", "arm", "run", "status", "verdict", "commit", "note"),
    *("paper", "constraint", "exact", "start"),
    *("claim", "source", "quantity", "came out", "contrary"),
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
        text = f"{number(mean, decimals)} ± {number(half, decimals)}"
    return _counted(text, known, values)


def ranged(values: Sequence[float], decimals: int | None = None) -> str:
    """Print the values of the seeds as `cell` does, three or more as median (smallest to largest)."""
    known = sorted(value for value in values if not isnan(value))
    if len(known) < stats.FEWEST:
        return cell(values, decimals)
    middle, low, high = (number(value, decimals) for value in (median(known), known[0], known[-1]))
    return _counted(middle if low == high else f"{middle} ({low} to {high})", known, values)


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


def _counted(text: str, known: Sequence[float], values: Sequence[float]) -> str:
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def beside_gain(runs: Collection[Run], whose: str = "") -> dict[str, str]:
    """Print late share and C of an arm's runs under their labels, which may say `whose` they are."""
    return {f"{whose}{LEDGER[name].label}": shown(runs, name) for name in BESIDE_GAIN}


def without_unknown(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Drop those of some columns that hold nothing, or nothing but dashes."""
    return frame.drop(columns=[name for name in columns if name in frame and set(frame[name]) <= {"", DASH}])


def number(value: float, decimals: int | None = None) -> str:
    """Print a number with fixed decimals, or with about four digits; what rounds to zero without a sign."""
    if not isfinite(value):
        return DASH if isnan(value) else f"{value:g}"
    if decimals is None and not 1e-3 <= abs(value) < 1e6 and value:
        return f"{value:.2e}"
    return f"{value:z,.{_places(value) if decimals is None else decimals}f}"


def markdown(frame: pd.DataFrame, aligned: bool = True) -> str:
    """Print as a GitHub table: text to the left, numbers to the right; `aligned` or in fewest bytes."""
    escaped = frame.map(lambda text: text.replace("|", "\\|"))
    printed = tabulate(
        escaped.to_numpy().tolist(),
        headers=list(frame.columns),
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if name in TEXT_COLUMNS else "right" for name in frame.columns],
    )
    return printed if aligned else re.sub(r" +(?= )|(?<=--)-+", "", printed)


def _places(value: float) -> int:
    return next(places for limit, places in ((10, 3), (100, 2), (1000, 1), (inf, 0)) if abs(value) < limit)
