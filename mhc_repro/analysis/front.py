"""What the front page shows: settings and arms as `experiments/chosen.yaml` has them, one table, one picture."""

from collections.abc import Sequence

import pandas as pd

from mhc_repro.analysis.figures.front import CAPTION
from mhc_repro.analysis.tables import cells, pairs
from mhc_repro.evidence.arms import BASELINE
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies, joined

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


def table(found: Sequence[Comparison], folder: str) -> str:
    """Write the table of settings: a row links the page of each study that holds runs of it, which lists them."""
    rows = []
    for setting in found:
        runs = pairs.paired_runs(setting)
        if seeds := len(runs[BASELINE]):
            studies = dict.fromkeys(run.study for arm in main_arms() for run in runs[arm].values())
            named = zip((label(setting), *[*studies][1:]), studies, strict=True)
            links = " + ".join(f"[{name}]({folder}{study}/README.md)" for name, study in named)
            count = f"{seeds} seeds" if seeds > 1 else "one seed"
            rows.append({"setting": f"{links}, {count}"} | pairs.row(setting, runs))
    if not rows:
        return pairs.EMPTY
    frame = pd.DataFrame(rows, dtype=object)[["setting", *pairs.gaps(), *pairs.gains()]]
    # Whole or not at all: most runs are older than what stands beside a gain; the table of FINDINGS has the rest.
    partly = [name for name in pairs.beside() if frame[name].str.contains(rf"{cells.DASH}| of ").any()]
    return cells.markdown(frame.drop(columns=partly).rename(columns=pairs.gains()), aligned=False)


def picture(folder: str) -> str:
    """Show the one picture, its first half alone on a narrow screen."""
    return (
        f'<picture><source media="(max-width: 600px)" srcset="{folder}{HALF}">'
        f'<img alt="Gain against loss, and mHC minus HC, in the settings below" src="{folder}{PICTURE}"></picture>'
        f"\n\n{CAPTION}"
    )
