"""How runs are named in words: under tables, in titles of figures, on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.sweeps import LR, MAPS_LR, rate
from mhc_repro.runs import Run


def no_run(study: str) -> str:
    """Say that a study has none, and what makes them."""
    return f"*Study `{study}`: no run yet (`make study STUDY={study}`).*"


def title(comparison: Comparison) -> str:
    """Name a comparison in one line: study, setting, arms, seeds."""
    arms = ", ".join(comparison.arms)
    return f"study {comparison.study}: {protocol(comparison)}; {arms}; {seeds_text(comparison)}"


def protocol(comparison: Comparison) -> str:
    """Say the setting: size, rate, length, data; of a model of one's own what is known of it."""
    config = comparison.runs[0].config
    blocks = {run.config["model"]["blocks"] for run in comparison.runs}  # several where depth is swept
    streams = {run.n for run in comparison.runs} - {1}
    factors, data = _spanned(comparison, MAPS_LR), config["data"]
    numbers = f"n = {'/'.join(map(str, sorted(streams)))}" if streams else ""
    batch = f"{data['batch']} × {data['sequence']}"
    if own := comparison.runs[0].own:
        first = comparison.runs[0]
        parts = [own, f"{first.layers} connections", numbers, f"{first.steps} steps of {batch}"]
    else:
        parts = [
            f"{'/'.join(map(str, sorted(blocks)))} blocks × {config['model']['dim']}",
            numbers,
            f"peak learning rate {_spanned(comparison, LR)}",
            f"that of the maps {factors} times it" if factors != "1" else "",
            "" if config["optim"]["clip"] else "no gradient clipped",
            f"{config['train']['steps']} steps of {batch}",
            data["name"] if data["name"] != "synthetic" else "SYNTHETIC DATA",
        ]
    return ", ".join(filter(None, parts))


def _spanned(comparison: Comparison, key: str) -> str:
    """Print a setting's value, its smallest and largest where it is swept."""
    found = sorted({rate(run, key) for run in comparison.runs})
    return " to ".join(f"{each:g}" for each in dict.fromkeys((found[0], found[-1])))


def status(run: Run) -> str:
    """Say how a run ended, of one that did not finish at which step, and where it broke."""
    if run.state == "finished":
        return run.state
    broke = run.status.get("broke")
    return f"{run.state} at {run.progress}" + (f" ({broke})" if broke else "")


def seeds_text(comparison: Comparison) -> str:
    """Say how many seeds, and which."""
    seeds = comparison.seeds
    return (
        f"one seed ({seeds[0]})" if len(seeds) == 1 else f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"
    )


def counted(runs: Sequence[Run]) -> str:
    """Say how many runs there are."""
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def provenance(comparisons: Sequence[Comparison]) -> str:
    """Say of which runs of a study something is made, how many, of which commit, and how to make it again."""
    first = comparisons[0]
    runs = [run for each in comparisons for run in each.runs]
    shown = first.study in chosen().demonstrations
    settings = f"{protocol(first)}, {seeds_text(first)}"
    if first.setting:
        settings = "; ".join(f"{each.setting}, {seeds_text(each)}" for each in comparisons)
    commits = ", ".join(sorted({code(run.manifest) for run in runs}))
    warning = "**A demonstration, not evidence.** " if shown else ""
    made = f"{warning}*Study `{first.study}` ({settings}): {counted(runs)}"
    return f"{made}.*" if runs[0].own else f"{made}, commit {commits}. Regenerate: `make report`.*"


def code(made: Mapping[str, Any]) -> str:
    """Give the short hash of the commit that made a run or a record, and whether it is all there was."""
    short = str(made.get("commit") or "unknown")[:7]
    return f"{short} with uncommitted changes" if made.get("dirty") else short
