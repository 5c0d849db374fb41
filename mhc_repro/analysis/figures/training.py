"""Figures of one comparison: training, gain by layer, loss gap to the baseline.

Each is a function of runs to a Figure and leaves no global state. With one or two seeds every line is
a run; from three on the seeds are thin and their mean is thick. A cross marks where a run diverged.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import Curves, by_layer, curves, gaps, smooth
from mhc_repro.evidence.styles import BASELINE, style

TRAINING = (
    "Loss, gradient norm, composite amax gain and activation gain over training; losses and norms that would lie "
    "on top of each other against the baseline's of the same seed. A cross marks where a run diverged."
)
COINCIDE = 0.05  # of what the baseline's curve spans, root mean square: a line or two in a panel


@theme.styled
def training(comparison: Comparison) -> Figure:
    """Draw loss, gradient norm, composite gain and activation gain over the steps."""
    figure, axes = drawing.canvas(comparison, "Training", rows=2, columns=2)
    loss, gradient, composite, activation = axes.flat
    _losses(loss, comparison)
    _gradients(gradient, comparison)
    for arm, runs in comparison.arms.items():
        drawing.lines(composite, arm, [], curves(runs, "gain/composite_backward"), marker="")
        drawing.lines(composite, arm, runs, curves(runs, "gain/composite_forward"))
        drawing.lines(activation, arm, runs, curves(runs, "gain/activation"))
    composite.set(
        title="(c) Composite gain: forward marked, backward plain", ylabel="largest over sub-layers"
    )
    activation.set(title="(d) Activation gain", ylabel="max|last| / max|first|")
    scales.fit_gain([composite])
    scales.fit_positive(activation)
    drawing.finish(figure, comparison, xlabel="step")
    return figure


def _losses(ax: Axes, comparison: Comparison) -> None:
    gaps_of = {arm: smoothed_against(comparison, arm, "loss/train") for arm in others(comparison)}
    if coincide(comparison, "loss/train", gaps_of):
        _gaps(ax, comparison, dict.fromkeys(gaps_of, BASELINE))
        ax.set(title="(a) Loss − baseline's (points: validation)", ylabel="nats per symbol")
        return
    for arm, runs in comparison.arms.items():
        drawing.noisy(ax, arm, runs, curves(runs, "loss/train"))
        drawing.points(ax, arm, curves(runs, "loss/val"))
    ax.set(title="(a) Loss: train (smoothed), validation (points)", ylabel="nats per symbol")
    scales.fit_settled(ax)


def _gradients(ax: Axes, comparison: Comparison) -> None:
    logs = {arm: smoothed_against(comparison, arm, "grad/norm", np.log) for arm in others(comparison)}
    if coincide(comparison, "grad/norm", logs, np.log):
        drawing.reference(ax, 1.0)
        for arm, found in logs.items():
            ratios = {seed: np.exp(curve) for seed, curve in found.items()}
            drawing.lines(ax, arm, comparison.arms[arm], ratios, marker="")
        ax.set(title="(b) Gradient norm / baseline's (smoothed)", ylabel="all parameters, before clipping")
        scales.fit_settled(ax, include=[1.0])
        return
    for arm, runs in comparison.arms.items():
        drawing.noisy(ax, arm, runs, curves(runs, "grad/norm"))
    ax.set(title="(b) Gradient norm before clipping (smoothed)", ylabel="all parameters")
    scales.fit_positive(ax)


def others(comparison: Comparison) -> list[str]:
    """List the arms but the baseline."""
    return [arm for arm in comparison.arms if arm != BASELINE]


def smoothed_against(
    comparison: Comparison, arm: str, key: str, scale: Callable[[pd.Series], pd.Series] = pd.Series
) -> dict[int, pd.Series]:
    """Subtract the baseline's smoothed curve from an arm's, by seed, both on a scale."""
    ours, base = (
        {seed: scale(smooth(curve)) for seed, curve in curves(comparison.arms.get(each, []), key).items()}
        for each in (arm, BASELINE)
    )
    return {seed: gap.dropna() for seed, gap in stats.paired(ours, base).items()}


def coincide(
    comparison: Comparison,
    key: str,
    against: Mapping[str, Curves],
    scale: Callable[[pd.Series], pd.Series] = pd.Series,
) -> bool:
    """Say whether every arm's curve would lie on the baseline's, in the later half of what both have."""
    base = [scale(smooth(curve)) for curve in curves(comparison.arms.get(BASELINE, []), key).values()]
    spans = [np.ptp(settled) for curve in base if len(settled := curve.iloc[len(curve) // 10 :])]
    far = [gap.iloc[len(gap) // 2 :].pow(2).mean() ** 0.5 for of in against.values() for gap in of.values()]
    return bool(spans and far) and all(each < COINCIDE * min(spans) for each in far)


GAIN_BY_LAYER = (
    "Amax gain by sub-layer: of each H_res alone, of all up to the sub-layer (forward), and of all from the "
    "sub-layer to the end (backward). A residual baseline is 1 by definition."
)

ROW, COLUMN = "largest |row sum|", "largest |column sum|"
GAIN_PANELS = (  # column of the gains table, title, y axis
    ("single_forward", "(a) One sub-layer, forward", ROW),
    ("single_backward", "(b) One sub-layer, backward", COLUMN),
    ("composite_forward", r"(c) Composite, forward: $H_l \cdots H_1$", ROW),
    ("composite_backward", r"(d) Composite, backward: $H_L \cdots H_l$", COLUMN),
)


@theme.styled
def gain_by_layer(comparison: Comparison) -> Figure:
    """Draw the amax gains against the sub-layer: at the last probe, and faint their largest over training.

    Single and composite maps, forward and backward, as Figures 3 and 7 of the mHC paper.
    """
    figure, axes = drawing.canvas(comparison, "Amax gain by sub-layer", rows=2, columns=2)
    layers = comparison.runs[0].layers
    for ax, (key, title, ylabel) in zip(axes.flat, GAIN_PANELS, strict=True):
        drawing.reference(ax, 1.0)
        for arm, runs in comparison.arms.items():
            if arm == BASELINE:
                continue
            found = by_layer(runs, key)
            largest = {seed: table.max(axis=1) for seed, table in found.items()}
            drawing.lines(ax, arm, [], largest, linewidth=0.7, alpha=0.55, marker="")
            drawing.lines(ax, arm, [], {seed: table.iloc[:, -1] for seed, table in found.items()})
        ax.set(title=title, ylabel=ylabel)
        scales.tick_layers(ax, layers)
    scales.fit_gain(list(axes[0]))
    scales.fit_gain(list(axes[1]))
    notes = [
        Line2D([], [], color="0.4", linewidth=1.4, label="last probe"),
        Line2D([], [], color="0.4", linewidth=0.7, alpha=0.55, label="largest over training"),
    ]
    drawing.finish(figure, comparison, xlabel=drawing.sub_layer(comparison), notes=notes)
    return figure


LOSS_GAP = (
    "Loss minus the baseline's of the same seed, on the same batches; below zero is better than the baseline. Arms "
    "whose difference from another is small beside that, in the later half, are drawn against the other, in (b)."
)
SMALL = 0.25  # of the distance from the baseline, root mean square over steps and seeds


@theme.styled
def loss_gap(comparison: Comparison) -> Figure:
    """Draw each arm's loss minus the baseline's on the same batches, and on the validation windows.

    As Figures 2 and 5 of the mHC paper. What would lie on top of another arm is drawn against that one.
    """
    alike = twins(comparison)
    figure, axes = drawing.canvas(comparison, "Loss gap to the baseline", rows=1 + bool(alike), columns=1)
    band = "; band: 95 % t interval" if len(comparison.seeds) >= stats.FEWEST else ""
    apart = [arm for arm in others(comparison) if arm not in alike]
    _gaps(axes[0, 0], comparison, dict.fromkeys(apart, BASELINE))
    letter = "(a) " if alike else ""
    axes[0, 0].set(title=f"{letter}Same batches, smoothed; validation (points){band}; below 0: better")
    axes[0, 0].set(ylabel="loss − baseline (nats)")
    if alike:
        _gaps(axes[1, 0], comparison, alike)
        against: dict[str, list[str]] = {style(other).label: [] for other in alike.values()}
        for arm, other in alike.items():
            against[style(other).label].append(style(arm).label)
        words = "; ".join(f"{', '.join(arms)} against {other}" for other, arms in against.items())
        whose = f"{next(iter(against))}'s" if len(against) == 1 else "the other's"
        axes[1, 0].set(title=f"(b) {words}", ylabel=f"loss − {whose} (nats)")
    drawing.finish(figure, comparison, xlabel="step")
    return figure


def twins(comparison: Comparison) -> dict[str, str]:
    """Name the arms that coincide with another, and that one, where there are seeds enough for means."""
    found: dict[str, str] = {}
    if len(comparison.seeds) < stats.FEWEST or BASELINE not in comparison.arms:
        return found
    few = drawing.with_fewer_seeds(comparison)
    arms = others(comparison)
    for place, arm in enumerate(arms):
        away = SMALL * _distance(comparison, arm, BASELINE)
        earlier = arms if arm in few else arms[:place]
        references = [other for other in earlier if other not in (arm, *few, *found)]
        alike = [other for other in references if _distance(comparison, arm, other) < away]
        if alike:
            found[arm] = alike[0]
    return found


def _distance(comparison: Comparison, arm: str, reference: str) -> float:
    found = gaps(comparison.arms[arm], comparison.arms[reference], "loss/train").values()
    values = [gap.to_numpy()[len(gap) // 2 :] for gap in map(smooth, found)]
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2))) if values else float("inf")


def _gaps(ax: Axes, comparison: Comparison, references: Mapping[str, str]) -> None:
    drawing.reference(ax, 0.0)
    for arm, reference in references.items():
        runs, others = comparison.arms[arm], comparison.arms.get(reference, [])
        smoothed = {seed: smooth(gap) for seed, gap in gaps(runs, others, "loss/train").items()}
        drawing.lines(ax, arm, runs, smoothed, band=True, marker="")
        drawing.points(ax, arm, gaps(runs, others, "loss/val"))
    scales.fit_settled(ax, include=[0.0])
