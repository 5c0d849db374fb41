"""Figures of one comparison: training, gain by layer, loss gap to the baseline.

Each is a function of runs to a Figure and leaves no global state. With one or two seeds every line is
a run; from three on the seeds are thin and their mean is thick. A cross marks where a run diverged.
"""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing
from mhc_repro.evidence import stats
from mhc_repro.evidence.arms import BASELINE
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.curves import by_layer, curves, gaps, smooth

TRAINING = (
    "Loss, gradient norm, composite amax gain and activation gain over training. A cross marks where a run "
    "diverged."
)


@theme.styled
def training(comparison: Comparison) -> Figure:
    """Draw loss, gradient norm, composite gain and activation gain over the steps."""
    figure, axes = drawing.canvas(comparison, "Training", rows=2, columns=2)
    loss, gradient, composite, activation = axes.flat
    for arm, runs in comparison.arms.items():
        drawing.noisy(loss, arm, runs, curves(runs, "loss/train"))
        drawing.points(loss, arm, curves(runs, "loss/val"))
        drawing.noisy(gradient, arm, runs, curves(runs, "grad/norm"))
        drawing.lines(composite, arm, [], curves(runs, "gain/composite_backward"), linewidth=0.7, marker="")
        drawing.lines(composite, arm, runs, curves(runs, "gain/composite_forward"))
        drawing.lines(activation, arm, runs, curves(runs, "gain/activation"))
    loss.set(title="(a) Loss: train (smoothed), validation (points)", ylabel="nats per symbol")
    gradient.set(title="(b) Gradient norm before clipping (smoothed)", ylabel="all parameters")
    composite.set(title="(c) Composite gain: forward thick, backward thin", ylabel="largest over sub-layers")
    activation.set(title="(d) Activation gain", ylabel="max|last| / max|first|")
    drawing.fit_settled(loss)
    drawing.fit_positive(gradient)
    drawing.fit_gain([composite])
    drawing.fit_positive(activation)
    drawing.finish(figure, comparison, xlabel="step")
    return figure


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
        drawing.tick_layers(ax, layers)
    drawing.fit_gain(list(axes[0]))
    drawing.fit_gain(list(axes[1]))
    notes = [
        Line2D([], [], color="0.4", linewidth=1.4, label="last probe"),
        Line2D([], [], color="0.4", linewidth=0.7, alpha=0.55, label="largest over training"),
    ]
    drawing.finish(figure, comparison, xlabel=drawing.SUB_LAYER, notes=notes)
    return figure


LOSS_GAP = (
    "Loss minus the baseline's of the same seed, on the same batches; below zero is better than the baseline."
)


@theme.styled
def loss_gap(comparison: Comparison) -> Figure:
    """Draw each arm's loss minus the baseline's on the same batches, and on the validation windows.

    As Figures 2 and 5 of the mHC paper.
    """
    figure, axes = drawing.canvas(comparison, "Loss gap to the baseline", rows=1, columns=1)
    ax = axes[0, 0]
    drawing.reference(ax, 0.0)
    baseline = comparison.arms.get(BASELINE, [])
    for arm, runs in comparison.arms.items():
        if arm != BASELINE:
            found = gaps(runs, baseline, "loss/train")
            smoothed = {seed: smooth(gap) for seed, gap in found.items()}
            drawing.lines(ax, arm, runs, smoothed, band=True, marker="")
            drawing.points(ax, arm, gaps(runs, baseline, "loss/val"))
    band = "; band: 95 % t interval" if len(comparison.seeds) >= stats.FEWEST else ""
    ax.set(title=f"Same batches, smoothed; validation (points){band}; below 0: better")
    ax.set(ylabel="loss − baseline (nats)")
    drawing.fit_settled(ax, include=[0.0])
    drawing.finish(figure, comparison, xlabel="step")
    return figure
