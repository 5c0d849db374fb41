"""What the front page shows: settings and arms as `experiments/chosen.yaml` has them, one table, one picture."""

from collections.abc import Sequence

import pandas as pd

from mhc_repro.analysis.figures.front import CAPTION
from mhc_repro.analysis.tables import cells, pairs
from mhc_repro.evidence import stats
from mhc_repro.evidence.arms import BASELINE
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies, joined
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.sweeps import LR, Sweep, sweeps, tuned

TUNED = "{}, tuned"  # each arm, seed by seed, at its own best of the rates that its nets were trained at
PICTURE, HALF = "figures/gain-and-loss.svg", "figures/gain-and-loss-half.svg"


def settings(studies: Studies) -> list[Comparison]:
    """Find the chosen settings that have runs, in the order chosen; studies that train the same nets are one."""
    found: dict[str, Comparison] = {}
    every = joined(studies)
    for name in chosen().settings:
        for each in every:
            if any(f"{part} ".startswith(f"{name} ") for part in each.name.split(" + ")):
                found.setdefault(each.name, each)
    return list(found.values())


def label(setting: Comparison) -> str:
    """Name a setting by size and rate."""
    rate = f"{setting.runs[0].config['optim']['lr']:.0e}".replace("e-0", "e-")
    return f"{setting.kind.layers} × {setting.kind.dim}, {rate}"


def table(found: Sequence[Comparison], studies: Studies, folder: str) -> str:
    """Write the table of settings: a row links the page of each study that holds runs of it, which lists them."""
    grids = [sweep for of_study in studies.values() for sweep in sweeps(of_study, LR)]
    rows = []
    for setting in found:
        runs = pairs.paired_runs(setting)
        if seeds := len(runs[BASELINE]):
            studies = dict.fromkeys(run.study for arm in main_arms() for run in runs[arm].values())
            named = zip((label(setting), *[*studies][1:]), studies, strict=True)
            links = " + ".join(f"[{name}]({folder}{study}/README.md)" for name, study in named)
            count = f"{seeds} seeds" if seeds > 1 else "one seed"
            best = {
                TUNED.format(name): _at_best(tuned(setting, grids), *arms) for name, arms in _tuned().items()
            }
            rows.append({"setting": f"{links}, {count}"} | pairs.row(setting, runs) | best)
    if not rows:
        return pairs.EMPTY
    columns = ["setting", *pairs.gaps(), *map(TUNED.format, _tuned()), *pairs.gains()]
    frame = pd.DataFrame(rows, dtype=object)[columns]
    # Whole or not at all: most runs are older than what stands beside a gain; the table of FINDINGS has the rest.
    partly = [name for name in pairs.beside() if frame[name].str.contains(rf"{cells.DASH}| of ").any()]
    return cells.markdown(frame.drop(columns=partly).rename(columns=pairs.gains()), aligned=False)


def _tuned() -> dict[str, tuple[str, str]]:
    return {name: arms for name, arms in pairs.gaps().items() if BASELINE in arms}


def _at_best(sweep: Sweep | None, ours: str, base: str) -> str:
    if sweep is None:
        return cells.DASH
    one, other = (
        {seed: values(run)["bpc"] for seed, run in sweep.at_best(arm).items()} for arm in (ours, base)
    )
    return cells.cell([*stats.paired(one, other).values()], decimals=3)


def picture(folder: str) -> str:
    """Show the one picture, its first half alone on a narrow screen."""
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{folder}{HALF}">'
        f'<img alt="Gain against loss, and mHC minus HC, in the settings below" src="{folder}{PICTURE}"></picture>'
        f"\n\n{CAPTION}"
    )
