"""How much an arm minds its learning rate, and up to which rate it trains.

A grid of rates, ascending, is one for all arms and seeds that are compared; `losses` are those of one of them at
the end of its runs, one a rate: infinite where the run diverged, NaN where there is none. A grid with a hole has
no number at all, since over other rates it would be another one.

Limits. These compare arms only where a rate means the same in both: not where an intervention scales the steps, as
maps with a rate of their own do. They see the loss at the end: a spike that has healed by then is not in them. And
they know the edge to a step of the grid: seeds that agree to a step have no scatter, and an interval of no width.
"""

from collections.abc import Sequence
from math import inf, isnan, nan
from statistics import fmean


def sensitivity(losses: Sequence[float], start: float) -> float:
    """Return E[min(l(A(eta)), l_0) - l*], LR sensitivity (Wortsman et al., arXiv 2309.14322).

    The mean is over the grid, `start` is l_0, the loss before the first step, and l* the lowest of the grid. A run
    that diverged counts as l_0. NaN where no rate ends below l_0: what learns nowhere is not insensitive.
    """
    lowest = _lowest(losses)
    return fmean(min(loss, start) - lowest for loss in losses) if lowest < start else nan


def best(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate with the lowest loss, the lower of equals; NaN where none is finite."""
    lowest = _lowest(losses)
    return rates[losses.index(lowest)] if lowest < inf else nan


def largest_stable(rates: Sequence[float], losses: Sequence[float], broken: float) -> float:
    """Return the largest rate of the grid up to which none broke; 0 where the lowest did, or none trains.

    A rate broke if its run diverged, or ended with the loss `broken` or above without being merely too slow: below
    the best rate only divergence counts. A threshold, as in the maximal initial rate of Iyer et al. (arXiv
    2212.07295), and one for all arms; since a clipped run that has lost its way stays finite, and by the end
    of its schedule may have come back to what the frequencies of bytes alone give, well below the loss it started
    from. Neither "not finite" nor l_0 would see it.
    """
    lowest, stable = _lowest(losses), 0.0
    if isnan(lowest + broken):
        return nan
    for at, (rate, loss) in enumerate(zip(rates, losses, strict=True)):
        slow = at < losses.index(lowest) and lowest < broken
        if loss == inf or (loss >= broken and not slow):
            break
        stable = rate
    return stable


def _lowest(losses: Sequence[float]) -> float:
    return nan if any(map(isnan, losses)) else min(losses)
