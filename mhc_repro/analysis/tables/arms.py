"""Every arm: what its file says, and, side by side, what it promises, costs and learns.

What an arm promises stands in its file; what it did comes from a study of all of them at the quick protocol
and from the bench's record of many arms on the fewest threads. What has not been measured is a dash.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mhc_repro import arm_files
from mhc_repro.analysis import labels, printed
from mhc_repro.analysis.tables import cells, overhead
from mhc_repro.arm_files import FAMILIES, About
from mhc_repro.bench.records import Record
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run

CAPTION = (
    "Exact: the constraint on H_res holds to rounding. Bound: of the composite gain at n = 4, forward / "
    "backward, at any depth; –: none. Start: of H_res; A.6 is mHC's own (0.993 on the diagonal), as A.6 one "
    "as far from I. Parameters: added, over the number of connections. Step and memory: times the baseline's, by "
    "the bench below. From I: ‖H_res − I‖ of the token mean (Frobenius, median over sub-layers) at the start and "
    "at the end. Gain: largest composite gain of the run, forward / backward; that of a history counts all "
    "the states it carries, of which the net reads the newest alone. Bits per character: on the test split, at the "
    "end of so short a training: no order of arms follows from that."
)


def by_family() -> str:
    """Write what the files say of their arms."""
    of_family: dict[str, list[str]] = {}
    for arm, about in arm_files.abouts().items():
        of_family.setdefault(about.family, []).append(f"- [`{arm}`]({arm}.yaml): {about.what}")
    return "\n\n".join(f"**{FAMILIES[family]}**\n\n" + "\n".join(arms) for family, arms in of_family.items())


def part(comparisons: Sequence[Comparison], root: Path) -> str:
    """Write a page's part: the table of a study, its caption, where it comes from."""
    found = {arm: runs for each in comparisons for arm, runs in each.arms.items()}
    costs, source = overhead.costs(root)
    frame = table(arm_files.abouts(), found, costs)
    kernel = [cells.KERNEL] if {*cells.beside_gain([])} & {*frame} else []
    caption = " ".join([CAPTION, *kernel])
    return "\n\n".join([cells.markdown(frame), caption, labels.provenance(comparisons), *source])


def parameters(run: Run) -> float:
    """Count the parameters that a run's connections added, per connection."""
    return run.manifest["parameters"]["connection"] / run.layers


def from_identity(runs: list[Run]) -> str:
    """Say how far H_res is from I at the first and at the last probe."""
    ends = [cells.shown(runs, f"from_identity_{end}") for end in ("start", "end")]
    return printed.DASH if ends == [printed.DASH] * 2 else " → ".join(ends)


def table(promised: dict[str, About], found: dict[str, list[Run]], costs: dict[str, Record]) -> pd.DataFrame:
    """Lay promises, results and costs side by side, as finished text, one row an arm."""
    rows = []
    for arm, about in promised.items():
        runs = found.get(arm, [])
        rows.append(
            {
                "arm": f"`{arm}`",  # as one types it
                "paper": about.paper,
                "constraint": about.constraint,
                "exact": {True: "yes", False: "no", None: printed.DASH}[about.exact],
                "bound": " / ".join(printed.DASH if each is None else f"{each:g}" for each in about.bound),
                "start": about.start,
                "parameters": f"{parameters(runs[0]):,.0f}" if runs else printed.DASH,
                "step": overhead.times_baseline(arm, costs, "step_ratio"),
                "memory": overhead.times_baseline(arm, costs, "peak_memory_ratio"),
                "from I": from_identity(runs),
                "gain": cells.gain(runs),
                **cells.beside_gain(runs),
                "bpc": cells.held_out_bpc(runs),
                "note": _notes(runs),
            }
        )
    return cells.without_unknown(pd.DataFrame(rows, dtype=object), *cells.beside_gain([]))


def _notes(runs: list[Run]) -> str:
    states = dict.fromkeys(labels.status(run) for run in runs if run.state != "finished")
    return "; ".join([*states, *dict.fromkeys(words for run in runs for words in verdict(run).words())])
