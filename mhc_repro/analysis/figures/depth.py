"""Composite gain against depth: one figure of a study that sweeps the number of blocks and nothing else.

A comparison never holds two depths, so this figure is of a whole study. Depth is on a linear axis: a gain that
each sub-layer multiplies by the same factor is a straight line once the gains need a logarithmic one.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import drawing, scales
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison, without
from mhc_repro.evidence.curves import curves
from mhc_repro.evidence.published import paper_gains
from mhc_repro.evidence.readings import COMPOSITE
from mhc_repro.evidence.styles import BASELINE, rank, style
from mhc_repro.runs import ENDED, Run

NAME = "gain-by-depth"
CAPTION = (
    "Composite amax gain against the number of sub-layers: the largest of the training, over sub-layers and both "
    "directions. A residual baseline is 1 by definition. Each mark is a run, or from three seeds on their median, "
    "with a bar from the smallest to the largest. Dotted: what the mHC paper reports of 27B, over 60 sub-layers."
)
SWEPT = ("connection.", "model.blocks")


def by_depth(comparisons: Sequence[Comparison]) -> Comparison | None:
    """Put a study's depths together by arm; None unless it has two or more, and they alone set runs apart.

    Runs that have not ended are left out: what they have reached so far is not their largest gain.
    """
    arms: dict[str, list[Run]] = {}
    for comparison in comparisons:
        for arm, runs in comparison.arms.items():
            arms.setdefault(arm, []).extend(run for run in runs if run.state in ENDED)
    found = {arm: arms[arm] for arm in sorted(arms, key=rank) if arms[arm]}
    runs = [run for of_arm in found.values() for run in of_arm]
    alike = all(without(run, SWEPT) == without(runs[0], SWEPT) for run in runs)
    if len({run.layers for run in runs}) < 2 or not alike:
        return None
    return Comparison(comparisons[0].study, "", found)


def gains(runs: Sequence[Run]) -> pd.DataFrame:
    """Give each run's largest gain that is finite: a row per number of sub-layers, a column per seed."""
    cells: dict[int, dict[int, float]] = {}
    for run in runs:
        found = [curve.max() for key in COMPOSITE for curve in curves([run], key).values() if len(curve)]
        if found:
            cells.setdefault(run.seed, {})[run.layers] = float(max(found))
    return pd.DataFrame(cells).sort_index().sort_index(axis=1)


@theme.styled
def gain_by_depth(swept: Comparison) -> Figure:
    """Draw the largest composite gain of each run of a sweep against its depth."""
    figure, axes = drawing.canvas(swept, "Composite gain by depth", rows=1, columns=1, height=2.9)
    ax = axes[0, 0]
    drawing.reference(ax, 1.0)
    published = {arm: gain for arm, gain in paper_gains().items() if arm in swept.arms and arm != BASELINE}
    for arm, runs in swept.arms.items():
        if arm != BASELINE:
            _draw(ax, arm, runs, gains(runs))
    for arm, gain in published.items():
        ax.axhline(gain, color=style(arm).colour, linestyle=":", linewidth=1.1, zorder=1, gid="published")
    ax.set(title="Largest over training, sub-layers and both directions", ylabel="composite gain")
    depths = sorted({run.layers for run in swept.runs})
    ax.xaxis.set_major_locator(FixedLocator(depths))
    margin = 0.06 * (depths[-1] - depths[0])
    ax.set_xlim(depths[0] - margin, depths[-1] + margin)
    scales.fit_gain([ax])
    notes = []
    if any(line.get_gid() == "range" for line in ax.lines):
        notes.append(Line2D([], [], color="0.4", marker="_", label="smallest to largest"))
    if published:
        notes.append(Line2D([], [], color="0.4", linestyle=":", label="the mHC paper, 27B"))
    drawing.finish(figure, swept, xlabel="sub-layers (two a block)", notes=notes)
    return figure


def _draw(ax: Axes, arm: str, runs: Sequence[Run], table: pd.DataFrame) -> None:
    own = style(arm)
    many = table.count(axis=1) >= stats.FEWEST
    look = own.line(marker=own.marker, linewidth=0.9, gid="run", label=drawing.named(arm))
    faint = {"linestyle": "", "alpha": 0.5, "markersize": 2.5, "gid": "seed"}
    if many.any():
        look["linestyle"] = ""  # a seed's own line helps the eye only while no median is drawn
    for seed in table:
        for part, changes in ((~many, {}), (many, faint)):
            curve = table[seed][part].dropna()
            if len(curve):
                ax.plot(curve.index, curve, **{**look, **changes})
    # no t interval: gains lie orders of magnitude apart, and a symmetric one would reach below zero
    spread = table[many].agg(["median", "min", "max"], axis=1)
    for depth, low, high in spread[["min", "max"]].itertuples():
        ax.plot([depth] * 2, [low, high], color=own.colour, marker="_", gid="range")
    if len(spread):
        ax.plot(spread.index, spread["median"], **own.line(marker=own.marker, gid="median"))
    for run in runs:
        if run.state == "diverged" and run.seed in table and run.layers in table[run.seed].dropna():
            drawing.cross(ax, arm, run.layers, table[run.seed][run.layers])
