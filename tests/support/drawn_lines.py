"""What the lines of a figure show."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from mhc_repro.evidence.styles import style


def lines(ax: Axes, arm: str, gid: str) -> list[Line2D]:
    """The lines of an arm's colour that are what `gid` says."""
    return [each for each in ax.lines if (each.get_color(), each.get_gid()) == (style(arm).colour, gid)]


def data(line: Line2D) -> dict[float, float]:
    """Finite values by where they stand."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    return {float(key): float(value) for key, value in zip(x, y, strict=True) if np.isfinite(value)}
