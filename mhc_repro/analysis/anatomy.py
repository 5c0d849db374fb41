"""Anatomy of the enwik8 reproduction's table: what its "amax gain" is, and what its mHC arm is.

Its ratio max|last activation| / max|first activation| contains the branches. Its mHC arm starts all streams and
all maps alike, so that by symmetry no map has a gradient, and it stays the plain residual net with branches
times 1/n for ever: arm `baseline_quarter`. Tables and figures here put the two beside each other.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mhc_repro.analysis import labels, theme
from mhc_repro.analysis.arms import BASELINE, style
from mhc_repro.analysis.comparison import Comparison, Studies
from mhc_repro.analysis.composites import matrices
from mhc_repro.analysis.curves import curves, smooth
from mhc_repro.analysis.figures import drawing
from mhc_repro.analysis.selection import choose, fullest, one_seed
from mhc_repro.analysis.summary import column, summarise
from mhc_repro.analysis.tables import published
from mhc_repro.analysis.tables.cells import REASONS
from mhc_repro.errors import UserError
from mhc_repro.runs import Run

STUDY = "published"
HC, MHC, QUARTER = published.ARMS[STUDY]["hc"], published.ARMS[STUDY]["mhc"], published.QUARTER
ARMS = (BASELINE, HC, MHC, QUARTER)
TWINS = (BASELINE, MHC, QUARTER)  # whose losses are drawn together
STREAMS = 4  # n of the published table
MISSING = float("nan")


def quartered(ratio: Any, n: int = STREAMS) -> Any:
    """Predict the activation ratio of a net whose branches are times 1/n from the ratio of the whole net.

    1 + (ratio - 1) / n: what the branches add to the first activation, divided by n, were they the same.
    """
    return 1 + (ratio - 1) / n


def beside(comparison: Comparison | None) -> pd.DataFrame:
    """Put the published numbers beside those of one seed of `comparison`: a row a quantity, NaN without a run."""
    found = {} if comparison is None else one_seed(comparison).arms
    ours = {arm: summarise(arm, run) for arm, (run,) in found.items()}
    table = {}
    for quantity in published.load()["reproduction"].quantities:
        row = {}
        for quoted, arm in (*published.ARMS[STUDY].items(), (None, QUARTER)):
            label = style(arm).label
            if quoted:
                row[label, "published"] = quantity.published[quoted]
            row[label, "here"] = quantity.of(ours[arm]) if arm in ours else MISSING
        table[quantity.name] = row
    return pd.DataFrame.from_dict(table, orient="index")


def prediction(comparison: Comparison | None) -> pd.DataFrame:
    """Predict the mHC arm's activation ratio from the baseline's, as published and here; NaN without a run."""
    table = beside(comparison)
    baseline, mhc, quarter = (style(arm).label for arm in (BASELINE, MHC, QUARTER))
    rows = {}
    for name in (name for name in table.index if "amax gain" in name):
        for place in ("published", "here"):
            ratio = table.loc[name, (baseline, place)]
            rows[name, place] = {
                "baseline": ratio,
                "1 + (baseline − 1)/4": quartered(ratio),
                "mHC arm": table.loc[name, (mhc, place)],
                "baseline, F/4": table.loc[name, (quarter, "here")] if place == "here" else MISSING,
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def with_streams(studies: Studies) -> list[Run]:
    """Collect the published arms with streams and, for contrast, HC and mHC of the largest other study."""
    ours = fullest(studies.get(STUDY, []), ARMS)
    runs = one_seed(ours, HC, MHC).runs if ours else []
    with suppress(UserError):  # there may be no other study
        runs = runs + one_seed(choose(studies), "hc", "mhc").runs
    return runs


def symmetry(runs: Sequence[Run]) -> pd.DataFrame:
    """Say of runs with streams whether the streams ever differ and whether the maps tell them apart.

    Each the largest over the run: spread of the streams; gradient norm of the connections over the body's;
    distance of an entry of H_res from a I + b J, the matrices that treat all streams alike.
    """
    rows = {
        (run.study, style(run.connection).label): {
            "spread of the streams": column(run.metrics, "streams/spread").max(),
            "gradient of the maps": gradient(run).max(),
            "H_res off a I + b J": max(asymmetry(matrices(run, step)) for step in run.gains["step"].unique()),
        }
        for run in runs
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["study", "arm"])
    return pd.DataFrame(list(rows.values()), index=index)


def asymmetry(h: np.ndarray) -> float:
    """Give the largest |entry| of H - (a I + b J) with the best a and b: (..., n, n) with n > 1 -> one number."""
    diagonal = np.eye(h.shape[-1], dtype=bool)
    inside, outside = h[..., diagonal], h[..., ~diagonal]
    rests = (part - part.mean(-1, keepdims=True) for part in (inside, outside))
    return float(max(np.abs(rest).max() for rest in rests))


def gradient(run: Run) -> pd.Series:
    """Give the gradient norm of the connections over the body's, by step."""
    steps = run.metrics.set_index("step")
    return (column(steps, "grad/norm_connection") / column(steps, "grad/norm_body")).dropna()


def recorded(comparison: Comparison | None) -> str:
    """Say of every arm how far its run came, or that there is none."""
    found = {} if comparison is None else one_seed(comparison).arms
    lines = [labels.title(comparison) if comparison else f"study {STUDY}: nothing recorded"]
    for arm in ARMS:
        state = f"no run yet; make study STUDY={STUDY} makes it"
        if arm in found:
            status = found[arm][0].status
            reasons = "; ".join(REASONS.get(code, code) for code in status.get("degenerate", []))
            state = f"{status['status']}, {status['step']} of {status['steps']} steps"
            state += f"; degenerate: {reasons}" if reasons else ""
        lines.append(f"  {style(arm).label}: {state}")
    return "\n".join(lines)


def difference(comparison: Comparison | None, arm: str, reference: str) -> pd.Series:
    """Subtract the training losses of two arms on the same batches, by step; empty when one has no run."""
    found = {} if comparison is None else one_seed(comparison).arms
    if arm not in found or reference not in found:
        return pd.Series(dtype=float)
    one, other = (column(found[each][0].metrics.set_index("step"), "loss/train") for each in (arm, reference))
    return (one - other).dropna()


def twins(comparison: Comparison | None) -> str:
    """Say how far the mHC arm's losses are from those of the baseline with branches / 4, and of the baseline."""
    lines = []
    for reference in (QUARTER, BASELINE):
        names = f"{style(MHC).label} against {style(reference).label}"
        gap = difference(comparison, MHC, reference).abs()
        apart = f"at most {gap.max():.1e} nats apart in {len(gap)} batches, {gap.mean():.1e} on average"
        lines.append(f"{names}: {apart if len(gap) else 'one of the two has no run yet'}")
    return "\n".join(lines)


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
    drawing.fit_positive(ax)
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
        _from_zero(ax)
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
            apart = difference(one, MHC, arm).abs()
            drawing.lines(gap, arm, [], {0: apart} if len(apart) else {}, marker="", linewidth=1.1)
    loss.set(title="(a) Training loss, smoothed", ylabel="nats per symbol")
    gap.set(title="(b) |mHC arm − this arm|, every batch", ylabel="nats per symbol")
    drawing.fit_settled(loss)
    _from_zero(gap)
    drawing.finish(figure, one, xlabel="step")
    return figure


def _from_zero(ax: Axes) -> None:
    """Put what may be exactly 0 on a log axis that has a 0: linear below the smallest value there is."""
    values = np.abs(
        np.concatenate([np.empty(0), *(np.asarray(line.get_ydata(), float) for line in ax.lines)])
    )
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (np.floor(np.log10(values.min())), np.log10(values.max())) if len(values) else (-1.0, 0.0)
    ax.set_yscale("symlog", linthresh=10**low, linscale=0.4)
    ax.set_ylim(-(10**low) / 4, 10 ** (high + 0.3))
    powers = np.arange(low, high + 0.3, max(np.ceil((high - low) / 5), 1))
    ax.set_yticks([0, *10**powers], ["0", *(f"$10^{{{power:.0f}}}$" for power in powers)])
    ax.minorticks_off()
