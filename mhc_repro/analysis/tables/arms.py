"""Cost and quality of every connection, side by side: the README's table of all arms.

What an arm promises stands in experiments/arms.yaml; what it did comes from study `arms` (the quick protocol)
and from the bench's newest record of many arms. What has not been measured is a dash.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mhc_repro.analysis import readme
from mhc_repro.analysis.arms import BASELINE, Promise, promises, style
from mhc_repro.analysis.comparison import Comparison, Studies
from mhc_repro.analysis.figures import FIGURES, OF_FAMILIES
from mhc_repro.analysis.summary import Summary, summaries
from mhc_repro.analysis.tables import cells, overhead

STUDY = "arms"
MANY = 10  # arms, more than which a figure cannot show
REFERENCES = (BASELINE, "mhc")  # in the figures of every family
EMPTY = f"No runs of all arms yet: `make study STUDY={STUDY}` makes them."
MISSING = float("nan")
CAPTION = (
    "Exact: the constraint on H_res holds to rounding. Bound: of the composite gain at n = 4, forward / "
    "backward, at any depth; –: none. Start: of H_res; A.6 is mHC's own (0.993 on the diagonal), as A.6 one "
    "as far from I. Parameters: added per connection. Step and memory: times the baseline's, by the bench "
    "below. Gain and bits per character: largest composite gain, forward / backward, and test split, after "
    "300 steps of the quick protocol, one seed: no order of arms follows from that."
)


def families(comparison: Comparison) -> list[Comparison]:
    """Split what has too many arms for a figure by family, each beside the baseline and mHC."""
    if len(comparison.arms) <= MANY:
        return [comparison]
    family = {arm: promise["family"] for arm, promise in promises().items()}
    found: dict[str, set[str]] = {}
    for arm in comparison.arms:
        found.setdefault(family.get(arm.partition(",")[0], "new"), set()).add(arm)
    return [
        replace(
            comparison,
            setting=", ".join(filter(None, [comparison.setting, name])),
            arms={arm: runs for arm, runs in comparison.arms.items() if arm in {*REFERENCES, *members}},
        )
        for name, members in found.items()
    ]


def drawn(comparisons: Sequence[Comparison]) -> list[tuple[Comparison, str]]:
    """List the figures of a study: of what, and which."""
    found = []
    for whole in comparisons:
        split = families(whole)
        names = FIGURES if split == [whole] else OF_FAMILIES
        found += [(each, name) for each in split for name in names]
    return found


def part(studies: Studies, root: Path) -> str:
    """Write the README's part: the table, its caption, where it comes from."""
    if STUDY not in studies:
        return EMPTY
    comparisons = studies[STUDY]
    found = {arm: of_arm for each in comparisons for arm, of_arm in summaries(each).items()}
    size = {run.connection: parameters(run.manifest, run.config) for each in comparisons for run in each.runs}
    record = overhead.newest(root, overhead.ALL_ARMS) or overhead.newest(root)
    frame = table(promises(), found, size, record["connections"] if record else {})
    sources = [readme.provenance(comparisons), *([f"*{overhead.provenance(record)}*"] if record else [])]
    return "\n\n".join([cells.markdown(frame), CAPTION, *sources])


def parameters(manifest: dict[str, Any], config: dict[str, Any]) -> float:
    """Count the parameters that a run's connections added, per connection (two a block)."""
    return manifest["parameters"]["connection"] / (2 * config["model"]["blocks"])


def table(
    promised: dict[str, Promise],
    found: dict[str, list[Summary]],
    size: dict[str, float],
    costs: dict[str, overhead.Record],
) -> pd.DataFrame:
    """Lay promises, results and costs side by side, as finished text, one row an arm."""
    rows = []
    for arm, promise in promised.items():
        runs, cost = found.get(arm, []), costs.get(arm, {})
        rows.append(
            {
                "arm": style(arm).label,
                "paper": promise["paper"],
                "constraint": promise["constraint"],
                "exact": {True: "yes", False: "no", None: cells.DASH}[promise["exact"]],
                "bound": " / ".join(cells.DASH if each is None else f"{each:g}" for each in promise["gain"]),
                "start": promise["start"],
                "parameters": f"{size[arm]:,.0f}" if arm in size else cells.DASH,
                "step": _ratio(arm, cost, "step_ratio"),
                "memory": _ratio(arm, cost, "peak_memory_ratio"),
                "gain": _gain(runs),
                "bpc": cells.cell([run.bpc for run in runs], decimals=3),
                "note": _notes(runs),
            }
        )
    return pd.DataFrame(rows, dtype=object)


def _ratio(arm: str, cost: overhead.Record, key: str) -> str:
    return cells.number(1.0 if arm == BASELINE else cost.get(key, MISSING), decimals=2)


def _gain(runs: list[Summary]) -> str:
    sides = ([run.composite_forward_max for run in runs], [run.composite_backward_max for run in runs])
    return " / ".join(cells.cell(values) for values in sides) if runs else cells.DASH


def _notes(runs: list[Summary]) -> str:
    states = dict.fromkeys(run.state for run in runs if run.state != "finished")
    codes = dict.fromkeys(note for run in runs for note in run.notes)
    return "; ".join([*states, *(f"{kind}: {cells.REASONS.get(code, code)}" for kind, code in codes)])
