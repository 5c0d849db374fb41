"""Figures of the amax gains beyond the report's: over training, by sub-layer at several steps, as heat maps.

A heat map, or lines that are steps, can show one seed only: the first that most arms have. The title says which.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.analysis.figures.training import GAIN_PANELS
from mhc_repro.analysis.selection import one_seed
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.composites import DIRECTIONS, last_kept, recomputed
from mhc_repro.evidence.curves import by_layer, curves
from mhc_repro.evidence.styles import BASELINE, style

CLOSEST = 1.02  # a heat map's scale reaches at least this far from 1: rounding noise shall look white
DIVERGING = "RdBu_r"  # blue below 1, white at 1, red above


@theme.styled
def over_training(comparison: Comparison) -> Figure:
    """Draw the largest amax gain over the sub-layers against the step, every arm."""
    figure, axes = drawing.canvas(comparison, "Largest amax gain over the sub-layers", rows=2, columns=2)
    for ax, (key, title, ylabel) in zip(axes.flat, GAIN_PANELS, strict=True):
        for arm, runs in comparison.arms.items():
            drawing.lines(ax, arm, runs, curves(runs, f"gain/{key}"))
        ax.set(title=title, ylabel=ylabel)
    for row in axes:
        scales.fit_gain(list(row))
    drawing.finish(figure, comparison, xlabel="step")
    return figure


@theme.styled
def at_steps(comparison: Comparison, arm: str, count: int = 6) -> Figure:
    """Draw one arm's amax gains against the sub-layer at `count` of the probed steps, early dark, late light."""
    one = one_seed(comparison, arm)
    (run,) = one.runs
    label = style(arm).label
    figure, axes = drawing.canvas(one, f"{label}: amax gain by sub-layer", rows=2, columns=2)
    probed = np.unique(run.gains["step"])
    steps = probed[np.unique(np.linspace(0, len(probed) - 1, count).round().astype(int))]
    shades = colormaps["viridis"](np.linspace(0, 0.9, len(steps)))
    for ax, (key, title, ylabel) in zip(axes.flat, GAIN_PANELS, strict=True):
        drawing.reference(ax, 1.0)
        table = by_layer([run], key)[run.seed]
        for step, shade in zip(steps, shades, strict=True):
            ax.plot(table.index, table[step], color=shade, marker="o", markersize=3, linewidth=1.3)
        ax.set(title=title, ylabel=ylabel)
        scales.tick_layers(ax, len(table))
    for row in axes:
        scales.fit_gain(list(row))
    keys = [
        Line2D([], [], color=shade, marker="o", label=f"step {step:,}")
        for step, shade in zip(steps, shades, strict=True)
    ]
    drawing.finish(figure, replace(one, arms={}), xlabel=drawing.sub_layer(one), notes=keys)
    return figure


@theme.styled
def heat_map(comparison: Comparison, kind: str = "composite") -> Figure:
    """Draw the amax gains of each arm with streams as sub-layer x step, colours on a log scale around 1.

    Each arm has its own scale: beside HC's, mHC's gains would all look like 1.
    """
    import seaborn  # here, since it costs a second

    one = one_seed(comparison)
    arms = {arm: runs for arm, runs in one.arms.items() if arm != BASELINE}
    title = f"Amax gain of {'the composites' if kind == 'composite' else 'each H_res'} (baseline: 1)"
    figure, axes = drawing.canvas(one, title, rows=len(arms), columns=2)
    for row, (arm, (run,)) in zip(axes, arms.items(), strict=True):
        found = {each: by_layer([run], f"{kind}_{each}")[run.seed] for each in DIRECTIONS}
        tables = {each: table.where(np.isfinite(table) & (table > 0)) for each, table in found.items()}
        logs = np.abs(np.log(np.concatenate([table.to_numpy().ravel() for table in tables.values()])))
        furthest = max(CLOSEST, float(np.exp(logs[np.isfinite(logs)].max(initial=0.0))))
        for ax, (direction, table) in zip(row, tables.items(), strict=True):
            norm = LogNorm(1 / furthest, furthest)
            seaborn.heatmap(table, ax=ax, norm=norm, cmap=DIVERGING, cbar=False, rasterized=True)
            _label(ax, table)
            ax.set(title=f"{style(arm).label}, {direction}", ylabel="sub-layer")
    keys = [
        Line2D([], [], linestyle="", marker="s", markersize=8, color=colormaps[DIVERGING](shade), label=label)
        for shade, label in ((0.1, "below 1"), (0.9, "above 1 (each arm has its own scale)"))
    ]
    drawing.finish(figure, replace(one, arms={}), xlabel="step", notes=keys)
    for row in axes:
        meshes = [ax.collections[0] for ax in row]
        values = np.ma.concatenate([mesh.get_array().ravel() for mesh in meshes])
        low, high = min(values.min(), 1.0), max(values.max(), CLOSEST)
        bar = figure.colorbar(meshes[0], ax=list(row), pad=0.015, aspect=14)
        bar.ax.set_ylim(low, high)  # the half of the scale that is not in use would only take room
        bar.set_ticks([1.0] + [end for end in (low, high) if abs(np.log(end)) > 0.1 * np.log(high / low)])
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda gain, _: f"{gain:.3g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


@theme.styled
def averaging(comparison: Comparison) -> Figure:
    """Draw by how much the gain of the product of averages misses that of the averaged product.

    At the last step that kept tokens: with the token means of all probe tokens, and thin on the kept tokens alone.
    """
    one = one_seed(comparison)
    arms = {arm: runs for arm, runs in one.arms.items() if arm != BASELINE}
    figure, axes = drawing.canvas(
        one, "Gain of the product of averages, against the averaged product's", rows=1, columns=2
    )
    for ax, direction in zip(axes.flat, DIRECTIONS, strict=True):
        drawing.reference(ax, 0.0)
        for arm, (run,) in arms.items():
            table = recomputed(run, last_kept(run))[direction]
            own = style(arm)
            for which, reference, width in (
                ("of averages", "recorded", 1.4),
                ("kept, of averages", "kept", 0.7),
            ):
                missed = 100 * (table[which] / table[reference] - 1)
                ax.plot(missed.index, missed, **own.line(marker=own.marker, linewidth=width))
            scales.tick_layers(ax, len(table))
        ax.set(title=f"Composite, {direction}", ylabel="gain, off by (%)")
    notes = [
        Line2D([], [], color="0.4", linewidth=1.4, label="all probe tokens"),
        Line2D([], [], color="0.4", linewidth=0.7, label="kept tokens"),
    ]
    drawing.finish(figure, replace(one, arms=arms), xlabel=drawing.sub_layer(one), notes=notes)
    return figure


def _label(ax: Axes, table: pd.DataFrame) -> None:
    """Label a heat map with round steps and the sub-layers, the first of them at the bottom."""
    steps, layers = np.asarray(table.columns, float), np.asarray(table.index, float)
    rounded = MaxNLocator(6, integer=True).tick_values(steps[0], steps[-1])
    rounded = rounded[(rounded >= steps[0]) & (rounded <= steps[-1])]
    kept = scales.layer_ticks(len(layers))
    for axis, wanted, at in ((ax.xaxis, rounded, steps), (ax.yaxis, kept, layers)):
        places = np.interp(wanted, at, np.arange(len(at))) + 0.5
        axis.set_ticks(places, [f"{value:,.0f}" for value in wanted], rotation=0)
    ax.invert_yaxis()
