"""Held-out bits against how far H_res has moved: what a constraint saves may be distance and nothing else."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.sweeps import MAPS_LR, SWEPT, Sweep

NAME = "moved"
CAPTION = (
    "Every run of the sweep: ‖H_res − I‖ at its end, median over the sub-layers, against its held-out bits minus "
    "those of the first arm with the same seed and rates; larger marks are maps that learn faster. Linear up to "
    f"{scales.LINEAR:g}, logarithmic beyond; grey: no more than a run repeated differs by. Left out: runs that "
    "diverged, and arms whose H_res stays I."
)
SIZES = 3.0, 8.0  # points, of the marks at the lowest and at the highest rate


@theme.styled
def moved(comparison: Comparison) -> Figure:
    """Draw the runs of a sweep over the rate of the maps: bits lost against the distance of H_res from I."""
    first, *_ = main_arms(comparison.study)
    sweep = Sweep(MAPS_LR, comparison)
    beside = {at: values(run)["bpc"] for at, run in sweep.runs(first).items() if run.state == "finished"}
    figure, axes = drawing.canvas(
        comparison, "Bits by the distance H_res went", 1, 1, height=3.2, of_seeds="marks: runs"
    )
    ax = axes[0, 0]
    drawing.reference(ax, 0.0, first)
    for arm in comparison.arms:
        own = style(arm)
        for at, run in sweep.runs(arm).items():
            found = values(run)
            if run.state == "finished" and at in beside and found["from_identity_end"] > 0:
                sizes = np.linspace(*SIZES, len(sweep.grid))
                size = np.interp(np.log(at[1]), np.log(sweep.grid), sizes)
                ax.plot(
                    found["from_identity_end"],
                    found["bpc"] - beside[at],
                    **own.line(linestyle="", marker=own.marker, markersize=size, alpha=0.75, gid="run"),
                    markeredgecolor="white",
                    label=drawing.named(arm),
                )
    drawing.noise(ax, comparison)
    scales.fit_signed(ax)
    ax.set_xscale("log")
    ax.set(
        title=f"Held-out bits − {style(first).label}'s, same seed and rates; below 0: better", ylabel="bits"
    )
    notes = [
        Line2D(
            [], [], color="0.4", linestyle="", marker="o", markersize=size, label=f"{SWEPT[MAPS_LR]}: {at:g}"
        )
        for size, at in zip(SIZES, (sweep.grid[0], sweep.grid[-1]), strict=True)
    ]
    drawing.finish(
        figure, comparison, xlabel="‖H_res − I‖ (Frobenius), median over sub-layers, at the end", notes=notes
    )
    return figure
