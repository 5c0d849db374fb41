"""Detailed metrics of one comparison: what a researcher who diagnoses an arm asks after the gains.

Does the gradient reach the body and the connections; do the streams differ; where is H_res between I and J/n;
what do the composites leave of a difference between streams and of a stream's gradient; can the gates still move.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.composites import weakest_column
from mhc_repro.evidence.curves import by_layer, curves, smooth, thin
from mhc_repro.runs import Run

CAPTION = (
    "For diagnosis. Gradient norms before clipping, of the body and of the connections' own parameters; the "
    "latter is a matter of the streams' basis, as the gain is, and the body's is what answers; grey: how the "
    "learning rate goes. By sub-layer at the last probe: the relative spread between the streams (0: they are "
    "one); how far H_res is from I and from J/n; the second singular value of the composite from the input (1: "
    "differences between streams survive, 0: they are averaged away); the smallest |column sum| of the composite "
    "to the end (how little of a stream's gradient comes back, where the gain shows the most); the slope of the "
    "gates over its largest value (0: saturated)."
)
DERIVED = {"weakest_column": weakest_column}  # from the matrices of a run, where no column has it
DISTANCES = ("distance_identity", "distance_uniform")
# by sub-layer at the last probe: columns of the gains table or DERIVED (the second without markers), title, y axis
PANELS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("spread",), "(b) Spread between the streams", "of the streams' norm"),
    (DISTANCES, "(c) Mean H_res from I: marked, from J/n: plain", "Frobenius distance"),
    (("sigma2",), r"(d) Second singular value of mean $H_l \cdots H_1$", "σ₂"),
    (("weakest_column",), r"(e) Smallest column sum of $H_L \cdots H_l$", "|column sum|"),
    (("gate_slope",), "(f) Slope of the gates", "of the largest"),
)
NOTHING = "not recorded"
SHADE = "0.88"


@theme.styled
def details(comparison: Comparison) -> Figure:
    """Draw gradient norms over the steps, and by sub-layer what the gains do not show."""
    figure, axes = drawing.canvas(comparison, "Details", rows=3, columns=2)
    gradient, *others = axes.flat
    for arm, runs in comparison.arms.items():
        drawing.noisy(gradient, arm, runs, curves(runs, "grad/norm_body"))
        connection = {seed: curve[curve > 0] for seed, curve in curves(runs, "grad/norm_connection").items()}
        smoothed = {seed: smooth(curve) for seed, curve in connection.items() if len(curve)}
        drawing.lines(gradient, arm, [], smoothed)
    gradient.set(
        title="(a) Gradient norm: body plain, connections marked", ylabel="before clipping, smoothed"
    )
    scales.fit_positive(gradient)
    shaded = _shade(gradient, comparison.runs)
    for ax, (keys, title, ylabel) in zip(others, PANELS, strict=True):
        for arm, runs in comparison.arms.items():
            if runs[0].n > 1:
                _by_layer(ax, arm, runs, keys)
        ax.set(title=title, ylabel=ylabel)
        layers = comparison.runs[0].layers
        scales.tick_layers(ax, layers)
        scales.fit_positive(ax)
        if not ax.lines:
            ax.set(xlim=(1, layers), yticks=[])
            ax.text(0.5, 0.5, NOTHING, transform=ax.transAxes, ha="center", color="0.4")
    notes = [Patch(color=SHADE, label="learning rate")] if shaded else []
    drawing.finish(figure, comparison, xlabel=drawing.sub_layer(comparison), notes=notes)
    gradient.set_xlabel("step")
    return figure


def _by_layer(ax: Axes, arm: str, runs: Sequence[Run], keys: Sequence[str]) -> None:
    looks: tuple[dict[str, Any], ...] = ({}, {"marker": ""})
    for key, look in zip(keys, looks, strict=False):
        if key in DERIVED:
            last = {run.seed: DERIVED[key](run) for run in runs if "h_backward" in run.gains}
        else:
            last = {seed: table.iloc[:, -1] for seed, table in by_layer(runs, key).items()}
        drawing.lines(ax, arm, [], {seed: curve[np.isfinite(curve)] for seed, curve in last.items()}, **look)


def _shade(ax: Axes, runs: Sequence[Run]) -> bool:
    """Shade the course of the learning rate at the foot of a panel, to the scale of its peak."""
    rates = next((curve for run in runs for curve in curves([run], "lr").values() if len(curve)), None)
    if rates is None:
        return False
    rates = thin(rates)
    part = 0.25 * rates / rates.max()  # of the panel's height
    look: dict[str, Any] = {"color": SHADE, "linewidth": 0, "zorder": 0.5}
    ax.fill_between(rates.index, 0, part, transform=ax.get_xaxis_transform(), **look)
    return True
