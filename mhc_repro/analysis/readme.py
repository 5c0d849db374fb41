"""The parts of the README that the report writes: whatever stands between its markers, and nothing else.

A part opens with `<!-- report:NAME -->` and closes with `<!-- /report -->`. Each ends in a line that says
which runs made it and how to make it again.
"""

import re
from collections.abc import Mapping

from mhc_repro.analysis.comparison import Comparison, Studies
from mhc_repro.analysis.figures import CAPTIONS, depth
from mhc_repro.analysis.tables import cells, stability
from mhc_repro.errors import UserError
from mhc_repro.runs import Run

SHOWN = ("stability", "quick")  # the first of these studies that has runs fills the README
DEPTH = "depth"  # the study whose figure by depth it shows
EMPTY = "No runs yet: `make quick` makes the first."
NO_DEPTHS = f"No runs at two depths yet: `make study STUDY={DEPTH}` makes them."
_MARKER = re.compile(r"<!-- (?:report:(?P<name>\S+)|/report) -->")


def parts(studies: Studies, folder: str) -> dict[str, str]:
    """Write every part by its name; `folder` is the results root as seen from the README."""
    by_depth = {f"{depth.NAME}-figure": _by_depth(studies.get(DEPTH, []), folder)}
    study = next((name for name in SHOWN if name in studies), None)
    if study is None:
        return {"stability-table": EMPTY} | {f"{name}-figure": EMPTY for name in CAPTIONS} | by_depth
    comparisons = studies[study]
    source = provenance(comparisons)
    found = {"stability-table": f"{table(comparisons)}\n\n{source}"}
    for name, caption in CAPTIONS.items():
        images = [f"![{spoken(name)}]({folder}/{figure(each, name)})" for each in comparisons]
        found[f"{name}-figure"] = "\n\n".join([*images, f"{caption} {source}"])
    return found | by_depth


def _by_depth(comparisons: list[Comparison], folder: str) -> str:
    swept = depth.sweep(comparisons)
    if swept is None:
        return NO_DEPTHS
    image = f"![{spoken(depth.NAME)}]({folder}/{figure(swept, depth.NAME)})"
    return f"{image}\n\n{depth.CAPTION} {provenance(comparisons)}"


def table(comparisons: list[Comparison]) -> str:
    """Write both halves of a study's stability table with their captions."""
    return "\n\n".join(
        f"**{half.title}**\n\n{cells.markdown(half.frame)}\n\n{half.caption}"
        for half in stability.halves(comparisons)
    )


def figure(comparison: Comparison, name: str) -> str:
    """Path of a figure below the results root."""
    return f"figures/{comparison.slug}-{name}.svg"


def spoken(name: str) -> str:
    """Say what a figure is where it cannot be seen; its caption stands below it."""
    return f"Figure: {name.replace('-', ' ')}"


def provenance(comparisons: list[Comparison]) -> str:
    """Say which runs these are, how many, of which commit, and how to make this again."""
    study = comparisons[0].study
    runs = [run for comparison in comparisons for run in comparison.runs]
    first = comparisons[0]
    settings = f"{first.protocol}, {first.n}"
    if first.setting:
        settings = "; ".join(f"{each.setting}, {each.n}" for each in comparisons)
    commits = ", ".join(sorted({commit(run) for run in runs}))
    source = f"*Study `{study}` ({settings}): {len(runs)} runs, commit {commits}. Regenerate: `make report`.*"
    if study != "quick":
        return source
    seeds, config = len(comparisons[0].seeds), runs[0].config
    size = f"{config['train']['steps']} steps, {config['model']['blocks']} blocks"
    count = "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"**Quick: {count}, {size}: a demonstration, not evidence.** {source}"


def commit(run: Run) -> str:
    """Short hash of the code that made a run."""
    short = str(run.manifest.get("commit") or "unknown")[:7]
    return f"{short} with uncommitted changes" if run.manifest.get("dirty") else short


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Replace what stands between the markers; UserError for an unknown name or a marker without its pair."""
    pieces, place, name = [], 0, None
    for found in _MARKER.finditer(text):
        if (name is None) == (found["name"] is None):
            unpaired = f"{found[0]} in line {text.count(chr(10), 0, found.start()) + 1}"
            raise UserError(
                f"README.md: {unpaired} has no pair; write <!-- report:NAME --> ... <!-- /report -->"
            )
        if found["name"] is None:
            pieces.append(f"\n{parts[str(name)]}\n")
            place, name = found.start(), None
        else:
            name = found["name"]
            if name not in parts:
                raise UserError(f"README.md: no part is called {name!r}; there are {', '.join(parts)}")
            pieces.append(text[place : found.end()])
    if name is not None:
        raise UserError(f"README.md: <!-- report:{name} --> is not closed; write <!-- /report --> after it")
    return "".join([*pieces, text[place:]])
