"""What the front page shows: settings and arms as `experiments/chosen.yaml` has them, one table, one picture."""

from collections.abc import Sequence
from itertools import chain
from math import nan

import pandas as pd

from mhc_repro.analysis import printed
from mhc_repro.analysis.figures.front import CAPTION
from mhc_repro.analysis.tables import cells, pairs
from mhc_repro.evidence import stats
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies, alike, joined
from mhc_repro.evidence.ledger import by_seed
from mhc_repro.evidence.sweeps import LR, Sweep, rate, tuned
from mhc_repro.places import FIGURES

TUNED = "{}, tuned"  # each arm, seed by seed, at its own best of the rates that its nets were trained at
AT_END = "‡"  # the best is the first or last of them, so that a better one may lie outside
PICTURE, HALF = f"{FIGURES}/gain-and-loss.svg", f"{FIGURES}/gain-and-loss-half.svg"


def settings(studies: Studies) -> list[Comparison]:
    """Find the chosen settings that have runs, in the order chosen; studies that train the same nets are one."""
    found: dict[str, Comparison] = {}
    every = joined(studies)
    for name in chosen().settings:
        for each in chain(*studies.values()):
            if f"{each.name} ".startswith(f"{name} "):
                whole = next(one for one in every if alike(each, one))
                found.setdefault(whole.name, whole)
    return list(found.values())


def label(setting: Comparison) -> str:
    """Name a setting by size and rate."""
    digits, _, power = f"{setting.runs[0].config['optim']['lr']:e}".partition("e")
    return f"{setting.kind.layers} × {setting.kind.dim}, {float(digits):g}e{int(power)}"


def table(found: Sequence[Comparison], studies: Studies, folder: str) -> str:
    """Write the table of settings: a row links the page of each study that holds runs of it, which lists them."""
    every = joined(studies)
    rows = []
    for setting in found:
        runs = pairs.paired_runs(setting)
        if seeds := len(runs[main_arms()[0]]):
            held = dict.fromkeys(run.study for arm in main_arms() for run in runs[arm].values())
            named = zip((label(setting), *[*held][1:]), held, strict=True)
            links = " + ".join(f"[{name}]({folder}{study}/README.md)" for name, study in named)
            count = f"{seeds} seeds" if seeds > 1 else "one seed"
            sweep = tuned(setting, every)
            best = {TUNED.format(name): _at_best(sweep, seeds, *arms) for name, arms in _tuned().items()}
            rows.append({"setting": f"{links}, {count}"} | pairs.row(setting, runs) | best)
    if not rows:
        return pairs.EMPTY
    gains = [name for arm in main_arms()[1:] for name in pairs.of_gain(arm, [])]
    columns = ["setting", *pairs.gaps(), *map(TUNED.format, _tuned()), *gains]
    frame = pd.DataFrame(rows, dtype=object)[columns]
    # Whole or not at all: most runs are older than what stands beside a gain; the table of FINDINGS has the rest.
    partly = [name for name in pairs.beside() if frame[name].str.contains(rf"{printed.DASH}| of ").any()]
    return cells.markdown(frame.drop(columns=partly), aligned=False)


def _tuned() -> dict[str, tuple[str, str]]:
    return {name: arms for name, arms in pairs.gaps().items() if main_arms()[0] in arms}


def _at_best(sweep: Sweep | None, seeds: int, ours: str, base: str) -> str:
    if sweep is None:
        return printed.DASH
    runs = [sweep.at_best(arm) for arm in (ours, base)]
    gaps = [*stats.paired(*(by_seed(of_seed, "bpc") for of_seed in runs)).values()]
    chosen_rates = {rate(run, LR) for of_seed in runs for run in of_seed.values()}
    text = printed.cell(gaps + [nan] * (seeds - len(gaps)), decimals=3)
    return f"{text} {AT_END}" if gaps and chosen_rates & {sweep.grid[0], sweep.grid[-1]} else text


def picture(folder: str) -> str:
    """Show the one picture, its first half alone on a narrow screen."""
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{folder}{HALF}">'
        f'<img alt="Gain against loss, and mHC minus HC, in the settings below" src="{folder}{PICTURE}"></picture>'
        f"\n\n{CAPTION}"
    )
