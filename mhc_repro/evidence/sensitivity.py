"""How much an arm minds its learning rate, and up to which rate it trains.

A grid of rates, ascending, is one for all arms and seeds that are compared; `losses` (..., rates) are those at the
end of a run for each of its rates: infinite where the run diverged, NaN where there is none. A grid with a hole has
no number at all, since over other rates it would be another one.

Limits. These compare arms only where a rate means the same in both: not where an intervention scales the steps, as
maps with a rate of their own do. They see the loss at the end: a spike that has healed by then is not in them. And
they know the edge to a step of the grid: seeds that agree to a step have no scatter, and an interval of no width.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


def sensitivity(losses: ArrayLike, start: ArrayLike) -> Numbers:
    """Return E[min(l(A(eta)), l_0) - l*] (...), LR sensitivity (Wortsman et al., arXiv 2309.14322).

    The mean is over the grid, `start` (...) is l_0, the loss before the first step, and l* the lowest of the grid.
    A run that diverged counts as l_0. NaN where no rate ends below l_0: what learns nowhere is not insensitive.
    """
    found, l_0 = np.asarray(losses, dtype=float), np.asarray(start, dtype=float)[..., None]
    lowest = found.min(axis=-1, keepdims=True)  # NaN where a rate is missing
    lost = np.minimum(found, l_0) - np.where(lowest < l_0, lowest, np.nan)
    return np.asarray(lost.mean(axis=-1))


def best(rates: ArrayLike, losses: ArrayLike) -> tuple[Numbers, Numbers]:
    """Return the rate with the lowest loss, the lower of equals, and that loss (...); NaN where none is finite.

    Raises ValueError where the rates are no grid of the losses.
    """
    grid, found = _on_a_grid(rates, losses)
    lowest = found.min(axis=-1)
    known = np.isfinite(lowest)
    rate = grid[np.where(known, found.argmin(axis=-1), 0)]
    return np.where(known, rate, np.nan), np.where(known, lowest, np.nan)


def largest_stable(rates: ArrayLike, losses: ArrayLike, broken: float) -> Numbers:
    """Return the largest rate of the grid up to which none broke (...); 0 where the lowest did, or none trains.

    A rate broke if its run diverged, or ended with the loss `broken` or above without being merely too slow: below
    the best rate only divergence counts. A threshold, as in the maximal initial rate of Iyer et al. (arXiv
    2212.07295), and one for all arms; since a clipped run that has lost its way stays finite, and by the end
    of its schedule may have come back to what the frequencies of bytes alone give, well below the loss it started
    from. Neither "not finite" nor l_0 would see it. Raises ValueError where the rates are no grid of the losses.
    """
    grid, found = _on_a_grid(rates, losses)
    lowest = found.min(axis=-1, keepdims=True)
    slow = (np.arange(len(grid)) < found.argmin(axis=-1)[..., None]) & (lowest < broken)
    breaks = np.where(slow, np.isinf(found), ~(found < broken))
    first = np.where(breaks.any(axis=-1), breaks.argmax(axis=-1), len(grid))
    return np.where(np.isnan(lowest[..., 0] + broken), np.nan, np.append(0.0, grid)[first])


def _on_a_grid(rates: ArrayLike, losses: ArrayLike) -> tuple[Numbers, Numbers]:
    grid, found = np.asarray(rates, dtype=float), np.asarray(losses, dtype=float)
    if not len(grid) or found.shape[-1:] != grid.shape or (np.diff(grid) <= 0).any():
        raise ValueError(f"losses {found.shape} need as many ascending rates, got {grid.tolist()}")
    return grid, found
