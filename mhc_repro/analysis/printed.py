"""Numbers as tables, sentences and figures print them: finished text, and a dash for what was not measured.

One seed is printed as its value, two as both values. Of three or more, losses are printed as mean ± half-width of
the 95 % t interval; what is positive and may lie orders of magnitude apart, such as a gain, as median and range.
"""

from collections.abc import Sequence
from math import inf, isfinite, isnan
from statistics import median

from mhc_repro.evidence import stats

DASH = "–"
SEVERAL = (
    "Two values are two seeds; of three or more, losses are mean ± half-width of the 95 % t interval, all else is "
    "median (smallest to largest)."
)


def number(value: float, decimals: int | None = None) -> str:
    """Print a number with fixed decimals, or with about four digits; what rounds to zero without a sign."""
    if not isfinite(value):
        return DASH if isnan(value) else f"{value:g}"
    if decimals is None and not 1e-3 <= abs(value) < 1e6 and value:
        return f"{value:.2e}"
    return f"{value:z,.{_places(value) if decimals is None else decimals}f}"


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


def _counted(text: str, known: Sequence[float], values: Sequence[float]) -> str:
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)})"


def _places(value: float) -> int:
    return next(places for limit, places in ((10, 3), (100, 2), (1000, 1), (inf, 0)) if abs(value) < limit)
