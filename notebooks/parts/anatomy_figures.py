"""Figures of the enwik8 reproduction's arms: what its "amax gain" does, and what its mHC arm is.

What they are about is said in `anatomy`.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.analysis.selection import one_seed
from mhc_repro.analysis.tables.published import quartered
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import curves, gaps, smooth
from mhc_repro.evidence.styles import BASELINE
from parts.anatomy import ARMS, HC, MHC, QUARTER, TWINS, gradient


@theme.styled
def activation(comparison: Comparison) -> Figure:
    """Draw the activation ratio of every arm over training, and what a quarter of the baseline's growth gives."""
    one = one_seed(comparison, *ARMS)
    figure, axes = drawing.canvas(one, "Activation gain, which the table calls amax gain", rows=1, columns=1)
    ax = axes[0, 0]
    for arm, runs in one.arms.items():
        drawing.lines(ax, arm, runs, curves(runs, "gain/activation"))
    look: dict[str, Any] = {"color": "0.45", "linestyle": ":", "linewidth": 1.6}
    for curve in curves(one.arms.get(BASELINE, []), "gain/activation").values():
        ax.plot(curve.index, quartered(curve), **look, label="1 + (baseline − 1)/4")
        ax.legend(loc="lower right")
    ax.set(title="In train mode, on the batch just trained on", ylabel="max|last| / max|first|")
    scales.fit_positive(ax)
    drawing.finish(figure, one, xlabel="step")
    return figure


@theme.styled
def separation(comparison: Comparison) -> Figure:
    """Draw whether the streams of the published arms separate, and whether their maps get gradients."""
    one = one_seed(comparison, HC, MHC)
    figure, axes = drawing.canvas(one, "Do streams separate, do maps learn", rows=1, columns=2)
    spread, maps = axes.flat
    for arm, runs in one.arms.items():
        drawing.lines(spread, arm, runs, curves(runs, "streams/spread"))
        drawing.lines(maps, arm, runs, {run.seed: gradient(run) for run in runs}, marker="")
    spread.set(title="(a) Spread between the streams", ylabel="relative to their norm")
    maps.set(title="(b) Gradient of the maps", ylabel="norm over the body's")
    for ax in (spread, maps):
        fit_from_zero(ax)
    drawing.finish(figure, one, xlabel="step")
    return figure


@theme.styled
def losses(comparison: Comparison) -> Figure:
    """Draw the losses of the mHC arm and of the baseline with branches / 4, and their difference batch by batch."""
    one = one_seed(comparison, *TWINS)
    figure, axes = drawing.canvas(one, "Two arms or one", rows=1, columns=2)
    loss, gap = axes.flat
    for arm, runs in one.arms.items():
        smoothed = {seed: smooth(curve) for seed, curve in curves(runs, "loss/train").items()}
        drawing.lines(loss, arm, runs, smoothed, linewidth=3.2 if arm == QUARTER else 1.2, marker="")
        if arm != MHC:
            found = gaps(one.arms.get(MHC, []), runs, "loss/train")
            apart = {seed: curve.abs() for seed, curve in found.items()}
            drawing.lines(gap, arm, [], apart, marker="", linewidth=1.1)
    loss.set(title="(a) Training loss, smoothed", ylabel="nats per symbol")
    gap.set(title="(b) |mHC arm − this arm|, every batch", ylabel="nats per symbol")
    scales.fit_settled(loss)
    fit_from_zero(gap)
    drawing.finish(figure, one, xlabel="step")
    return figure


def fit_from_zero(ax: Axes) -> None:
    """Put what may be exactly 0 on a log axis that has a 0: linear below the smallest value there is."""
    values = np.abs(scales.finite([ax]))
    values = values[values > 0]
    low, high = (np.floor(np.log10(values.min())), np.log10(values.max())) if len(values) else (-1.0, 0.0)
    ax.set_yscale("symlog", linthresh=10**low, linscale=0.4)
    ax.set_ylim(-(10**low) / 4, 10 ** (high + 0.3))
    powers = np.arange(low, high + 0.3, max(np.ceil((high - low) / 5), 1))
    ax.set_yticks([0, *10**powers], ["0", *(f"$10^{{{power:.0f}}}$" for power in powers)])
    ax.minorticks_off()
