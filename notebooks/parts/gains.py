"""Amax gains of a comparison as tables: where they peak, what they multiply to, how else they can be read."""

from collections.abc import Sequence

import pandas as pd

from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.composites import DIRECTIONS
from mhc_repro.evidence.styles import style
from mhc_repro.runs import Run
from mhc_repro.schema import GAINS


def peaks(comparison: Comparison) -> pd.DataFrame:
    """Say where each arm's gains are largest: value, sub-layer and step; and the largest at the last probe."""
    found = {}
    for arm, run in _runs(comparison):
        last = run.probe()
        for key in GAINS:
            # rounded, lest rounding noise around 1 names a place; the first of equals counts
            top = run.gains.iloc[int(run.gains[key].round(6).to_numpy().argmax())]
            found[arm, key.replace("_", " ")] = {
                "largest": top[key],
                "at sub-layer": int(top["layer"]),
                "at step": int(top["step"]),
                "at the last probe": last[key].max(),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "gain"])


def compounding(comparison: Comparison) -> pd.DataFrame:
    """Compare, at the last probe, what the single gains multiply to with the composite through all sub-layers."""
    found = {}
    for arm, run in _runs(comparison):
        last = run.probe()
        for direction, end in zip(DIRECTIONS, (-1, 0), strict=True):
            single, composite = last[f"single_{direction}"], last[f"composite_{direction}"].iloc[end]
            found[arm, direction] = {
                "largest single": single.max(),
                "product of singles": single.prod(),
                "composite, all sub-layers": composite,
                "growth per sub-layer": composite ** (1 / len(last)),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "direction"])


def readings(comparison: Comparison) -> pd.DataFrame:
    """Read the composite gain in three ways at the last probe, each the largest over the sub-layers.

    Of the token mean (the paper's figures), the mean of each token's own, and the induced norm of the token mean.
    """
    found = {}
    for arm, run in _runs(comparison):
        last = run.probe()
        for direction in DIRECTIONS:
            key = f"composite_{direction}"
            found[arm, direction] = {
                "amax of the token mean": last[key].max(),
                "mean of each token's amax": last[f"{key}_token"].max(),
                "norm of the token mean": last[f"{key}_norm"].max(),
            }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["arm", "direction"])


def _runs(comparison: Comparison) -> Sequence[tuple[str, Run]]:
    """Name every run: by its arm, and by its seed where there are several."""
    many = len(comparison.seeds) > 1
    return [
        (style(arm).label + (f", seed {run.seed}" if many else ""), run)
        for arm, runs in comparison.arms.items()
        for run in runs
    ]
