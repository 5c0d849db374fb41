"""The table of claims: each put to every recorded pair of runs that can answer it, and counted by setting.

No test runs over settings, which we chose and which share seeds.
"""

from math import isnan

import pandas as pd

from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.evidence import stats
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.claims import OPEN, Asked, Claim, agreement, ask, load, verdict
from mhc_repro.evidence.comparison import Studies, joined
from mhc_repro.evidence.ledger import DEEP, LEDGER
from mhc_repro.evidence.styles import style

EMPTY = "No study has finished runs that a claim can be asked of: `make quick` makes the first."
CAPTION = (
    "Settings for : against : open, by kind of setting: sub-layers × dim, tokens of the training. A setting is all "
    "runs that differ in arm and seed only, of whichever studies. From {fewest} pairs on they decide it if the 95 "
    "% t interval of their differences (of ratios: of the logarithms) leaves zero out and their mean is not even. "
    "Fewer leave it open: with the scatter seen here one pair would decide what is not so in 25 to 82 % of cases, "
    "two in 40 to 64 %. Where nothing differs, one setting in twenty comes out by chance. Even: within {noise}, "
    "more than any two recorded runs of one config differ by. A number is said of every run: one on its other side "
    "is against. What is reached in some setting is so where all runs of one are past the number, and not so where "
    "none of any is. Range: from the smallest to the largest pair; gains and norms are those of the other tables, "
    "of the whole training or of what follows step 128. Came out: what all settings say that decide in the longest "
    "trainings in which any does; trainings that are unlike have no vote on each other. All are of small nets, few "
    "seeds, a rate tuned for no arm and short trainings: what comes out here need not at 27B parameters, and the "
    "other way round. HC is that of the mHC paper (Eq. 5). A run that diverged has an infinite loss, and the gains "
    "and gradients it had until then; two losses that are both infinite, and a ratio with a zero, say nothing."
)
SOURCE = (
    "*Of all recorded studies but those over rates or to where training breaks. Regenerate: `make report`.*"
)


def part(studies: Studies) -> str:
    """Write a page's part: the table and its caption."""
    frame = table(load(), studies)
    return EMPTY if frame.empty else f"{cells.markdown(frame)}\n\n{caption()} {SOURCE}"


def brief(studies: Studies) -> str:
    """Write what came of the claims that some setting decides and how far it reaches, and how many are open."""
    frame = table(load(), studies)
    if frame.empty:
        return EMPTY
    decided = frame[~frame["came out"].isin([OPEN, "not asked", printed.DASH])]
    unsettled = frame["claim"][frame["came out"] == OPEN]
    meant: dict[str, list[str]] = {}
    for claim, note in zip(decided["claim"], decided["note"], strict=True):
        if note:
            meant.setdefault(note, []).append(claim)
    parts = [
        *([] if decided.empty else [cells.markdown(decided[["claim", "came out"]], aligned=False)]),
        *(f"{'; '.join(alike)}: {means}." for means, alike in meant.items()),
        *([] if unsettled.empty else [f"Open: {len(unsettled)} more."]),
    ]
    return "\n\n".join(parts)


def caption() -> str:
    """Explain the table."""
    asked = [LEDGER[name] for name in dict.fromkeys(claim.quantity for claim in load() if claim.quantity)]

    def within(layers: int) -> str:
        ratios = [f"{100 * each.noise_of(layers):g} % of the {each.label}" for each in asked if each.ratio]
        return ", ".join([f"{LEDGER['bpc'].noise_of(layers):g} bits", *ratios])

    noise = f"{within(0)} (from {DEEP} sub-layers on {within(DEEP)})"
    return CAPTION.format(noise=noise, fewest=stats.FEWEST)


def table(claims: list[Claim], studies: Studies) -> pd.DataFrame:
    """Lay out a row for each claim as finished text; none where no pair answers any."""
    settings = [each for each in joined(studies) if {run.study for run in each.runs} - {*chosen().apart}]
    found = {claim: [] if claim.cannot else ask(claim, settings) for claim in claims}
    kinds = sorted({each.kind for asked in found.values() for each in asked}, reverse=True)
    columns = [
        "claim",
        "source",
        "quantity",
        *dict.fromkeys(map(str, kinds)),
        "range",
        "came out",
        "contrary",
        "note",
    ]
    rows = [_row(*each) for each in found.items()] if kinds else []
    return pd.DataFrame(rows, columns=columns, dtype=object).fillna(printed.DASH)


def _row(claim: Claim, found: list[Asked]) -> dict[str, str]:
    ways = [(each, agreement(claim, each.pairs, each.kind.layers)) for each in found]
    by_kind: dict[str, list[int]] = {}
    for each, way in ways:
        by_kind.setdefault(str(each.kind), []).append(way)
    came_out = verdict(claim, ways) if ways else printed.DASH
    against = [] if claim.side == "reaches" else [each.setting for each, way in ways if way < 0]
    return {
        "claim": claim.claim,
        "source": claim.source,
        "quantity": _words(claim),
        **{kind: " : ".join(str(of.count(way)) for way in (1, -1, 0)) for kind, of in by_kind.items()},
        "range": _range(claim, found),
        "came out": "not asked" if claim.cannot else came_out,
        "contrary": ", ".join(against),
        "note": claim.cannot or claim.means,
    }


def _words(claim: Claim) -> str:
    if claim.cannot:
        return printed.DASH
    arms = style(claim.arm).label
    if isinstance(claim.other, str):
        arms += f" {'/' if LEDGER[claim.quantity].ratio else '−'} {style(claim.other).label}"
    return f"{LEDGER[claim.quantity].label}, {arms}"


def _range(claim: Claim, found: list[Asked]) -> str:
    quantity, paired = LEDGER[claim.quantity or "bpc"], isinstance(claim.other, str)
    pairs = [pair for each in found for pair in each.pairs]
    values = [quantity.compare(pair.ours, pair.other) if paired else pair.ours for pair in pairs]
    values = [value for value in values if not isnan(value)]
    if not values:
        return printed.DASH
    ends = [printed.number(end, None if quantity.ratio else 3) for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))
