"""The published numbers beside ours, each with a verdict: does it come out, and do the arms stand in its order?

What is quoted, from where, and what it is stands in `experiments/published.yaml`. What has not been run is a
dash and never a verdict; each seed is judged by itself, never a mean.
"""

from collections.abc import Iterable
from math import isclose, isnan
from typing import Any

import pandas as pd

from mhc_repro.analysis import labels, printed
from mhc_repro.analysis.selection import fullest
from mhc_repro.analysis.tables import cells
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.evidence.published import Columns, Quoted, load
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.runs import Run

TOLERANCE = 0.10  # a value reproduces within this part of the published one
TIE = 1e-3  # arms no further apart than this part have no order; no two published numbers are that close
STREAMS = 4  # n of the published table
EMPTY = "None of it has been run yet: `make reproduce-all` does."
EXPLANATION = (
    'What the reproduction calls "amax gain" is max|last activation| / max|first activation| in one more '
    "forward pass in train mode on the batch just trained on. It says how far activations grow, branches "
    "included, and depends on the scale of the embedding; of H_res alone a baseline has exactly 1, not {base[0]}. "
    "In the mHC arm of that code every number starts at 0 and all streams are equal, so that H_res is J/4, H_pre "
    "and H_post are 1/4, and by symmetry no gradient changes this: it is a residual net with branches times 1/4. "
    "Were its branches otherwise the baseline's, a ratio r would become 1 + (r − 1)/4, which is {quarter[0]:.1f} "
    "on average and {quarter[1]:.1f} at most; published are {mhc[0]} and {mhc[1]}."
)


Runs = dict[str, list[Run]]  # by the published arm


def part(studies: Studies) -> str:
    """Write a page's part: a table for each source, and what the gain of the first of them measures."""
    sources = load()
    names = dict.fromkeys(study for source in sources.values() for study in source.columns)
    arms = {study: dict(zip(main_arms(), main_arms(study), strict=True)) for study in names}
    quarter = chosen().controls.quarter
    found = {study: fullest(studies.get(study, []), (*arms[study].values(), quarter)) for study in names}
    ours = {study: {arm: _runs(found[study], name) for arm, name in arms[study].items()} for study in names}
    first = next(iter(sources.values()))
    if not any(found.values()):
        return f"{EMPTY}\n\n{explanation(first.quantities.values(), None)}"
    pieces = []
    for source in sources.values():
        frame = table(source.quantities.values(), ours, source.columns, source.judged == "values")
        caption = source.caption.replace("{tolerance}", f"{TOLERANCE * 100:g}")
        caption = caption.replace("{tie}", f"{TIE * 100:g}")
        pieces += [f"**{source.title}**", cells.markdown(frame), caption]
    pieces.append(explanation(first.quantities.values(), found[next(iter(first.columns))]))
    pieces += [labels.provenance([each]) if each else labels.no_run(study) for study, each in found.items()]
    return "\n\n".join(pieces)


def table(
    quantities: Iterable[Quoted], ours: dict[str, Runs], columns: Columns, judged: bool
) -> pd.DataFrame:
    """Lay out a row for each number and one for the order of the arms, all finished text.

    `columns` names those of each study: the value's, and the verdict's where there is one. Orders are always
    judged, values if `judged`.
    """
    rows = []
    for quantity in quantities:
        shared = {"quantity": quantity.name}
        for arm, text in quantity.quoted.items():
            row = shared | {"arm": style(arm).label, "published": text}
            for study, names in columns.items():
                runs = ours[study][arm]
                pair = cell(quantity, arm, runs), reproduces(quantity, arm, runs) if judged else ""
                row |= zip(names, pair, strict=False)
            rows.append(row)
        published = order(quantity.published)
        row = shared | {"arm": "order", "published": published}
        for study, names in columns.items():
            seen = orders(quantity, ours[study])
            shown, holds = " / ".join(dict.fromkeys(seen)), _verdict([each == published for each in seen])
            row |= zip(names, (shown or printed.DASH, holds), strict=False)
        rows.append(row)
    frame = pd.DataFrame(rows, dtype=object)
    frame["quantity"] = frame["quantity"].where(~frame["quantity"].duplicated(), "")
    return frame


def cell(quantity: Quoted, arm: str, runs: list[Run]) -> str:
    """Print ours of every seed, a single field to the published digits; say how many runs diverged."""
    decimals = len(quantity.quoted[arm].partition(".")[2]) if len(quantity.fields) == 1 else None
    texts = [cells.shown(runs, field, decimals) for field in quantity.fields]
    diverged = sum(run.state == "diverged" for run in runs)
    if set(texts) == {printed.DASH}:
        return "diverged" if diverged else printed.DASH
    text = texts[0] if len(texts) == 1 else f"{texts[0]} fwd, {texts[1]} bwd"
    return f"{text}, {diverged} diverged" if diverged else text


def reproduces(quantity: Quoted, arm: str, runs: list[Run]) -> str:
    """Say whether ours is within TOLERANCE of the published number: yes, no, or for how many seeds."""
    published, judged = quantity.published[arm], []
    for run in runs:
        if run.state == "diverged":
            judged.append(False)
        elif not isnan(ours := quantity.of(run)):
            judged.append(abs(ours - published) <= TOLERANCE * abs(published))
    return _verdict(judged)


def order(values: dict[str, float]) -> str:
    """Write the arms from the smallest value to the largest; a tie as a = b, in the order given."""
    groups: list[list[str]] = []
    for arm in sorted(values, key=lambda arm: values[arm]):
        if groups and isclose(values[arm], values[groups[-1][0]], rel_tol=TIE):
            groups[-1].append(arm)
        else:
            groups.append([arm])
    place = list(values).index
    labels = [[style(arm).label for arm in sorted(group, key=place)] for group in groups]
    return " < ".join(" = ".join(group) for group in labels)


def orders(quantity: Quoted, ours: Runs) -> list[str]:
    """Write the order in each seed that has every arm; where an arm diverged, that instead."""
    by_seed = {arm: {run.seed: run for run in runs} for arm, runs in ours.items()}
    found = []
    for seed in sorted(set.intersection(*(set(runs) for runs in by_seed.values()))):
        runs = {arm: by_seed[arm][seed] for arm in quantity.quoted}
        diverged = [style(arm).label for arm, run in runs.items() if run.state == "diverged"]
        values = {arm: quantity.of(run) for arm, run in runs.items()}
        if diverged:
            found.append(f"{' and '.join(diverged)} diverged")
        elif not any(map(isnan, values.values())):
            found.append(order(values))
    return found


def explanation(quantities: Iterable[Quoted], found: Comparison | None) -> str:
    """Say what the reproduction's gain is, and what a quarter of each branch does to it here, if that was run."""
    gains = [each for each in quantities if each.fields[0].startswith("activation")]
    base, _, bound = main_arms()
    text = EXPLANATION.format(
        base=[gain.quoted[base] for gain in gains],
        quarter=[quartered(gain.published[base]) for gain in gains],
        mhc=[gain.quoted[bound] for gain in gains],
    )
    if whole := [run for run in _runs(found, BASELINE) if run.state == "finished"]:
        mean, most = (
            printed.ranged([quartered(gain.of(run)) for run in whole], decimals=2) for gain in gains
        )
        text += f" From the baseline here it would be {mean} and {most}."
    if quarter := _runs(found, chosen().controls.quarter):
        mean, most = (cell(gain, bound, quarter) for gain in gains)
        text += f" A plain net with branches times 1/4 has {mean} and {most} here."
    return text


def quartered(ratio: Any) -> Any:
    """Predict the activation ratio of a net whose branches are times 1/n from the ratio of the whole net.

    1 + (ratio - 1) / n: what the branches add to the first activation, divided by n, were they the same.
    """
    return 1 + (ratio - 1) / STREAMS


def _runs(found: Comparison | None, arm: str) -> list[Run]:
    return found.arms.get(arm, []) if found else []


def _verdict(judged: list[bool]) -> str:
    if not judged:
        return printed.DASH
    if len(set(judged)) == 1:
        return "yes" if judged[0] else "no"
    return f"{sum(judged)} of {len(judged)} seeds"
