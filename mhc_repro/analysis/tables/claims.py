"""The table of claims: each put to every recorded pair of runs that can answer it, and counted by setting.

No test runs over settings, which we chose and which share seeds.
"""

from functools import cache

import pandas as pd

from mhc_repro.analysis.arms import style
from mhc_repro.analysis.claims import QUANTITIES, Claim, Pair, agreed, agreement, load, pairs
from mhc_repro.analysis.comparison import Studies
from mhc_repro.analysis.summary import summarise
from mhc_repro.analysis.tables import cells

EMPTY = "No study has finished runs that a claim can be asked of: `make quick` makes the first."
CAPTION = (
    "Settings for : against : open, by peak learning rate. A setting is a study's runs that differ in arm and "
    "seed only. One or two pairs of its runs decide it if none contradicts, and a pair is even within {noise}, "
    "somewhat more than one config run twice has differed by; three or more decide it if the 95 % t interval of "
    "their differences (of ratios: of the logarithms) leaves zero out and their mean is not even. Where the "
    "other side is a number, all runs must agree. Range: from the smallest to the largest pair; gains and norms "
    "are those of the other tables, of the whole training or of what follows step 128. Came out: yes or no where "
    "all settings that decide agree. All are of small nets, few seeds, a rate tuned for no arm and short "
    "trainings: what comes out here need not at 27B parameters, and the other way round. HC is that of the mHC "
    "paper (Eq. 5). A run that diverged has an endless loss, gain and gradient."
)
SOURCE = "*Of all recorded studies. Regenerate: `make report`.*"


def part(studies: Studies) -> str:
    """Write the README's part: the table and its caption."""
    frame = table(load(), studies)
    return EMPTY if frame.empty else f"{cells.markdown(frame)}\n\n{caption()} {SOURCE}"


def caption() -> str:
    """Explain the table."""
    ratios = [f"{100 * each.noise:g} % of the {name}" for name, each in QUANTITIES.items() if each.ratio]
    return CAPTION.format(noise=", ".join([f"{QUANTITIES['held-out bpc'].noise:g} bits", *ratios]))


def table(claims: list[Claim], studies: Studies) -> pd.DataFrame:
    """Lay out a row for each claim as finished text; none where no pair answers any."""
    summary = cache(summarise)  # most runs answer several claims
    found = {claim: [] if claim.cannot else pairs(claim, studies, summary) for claim in claims}
    rates = sorted({pair.rate for of_claim in found.values() for pair in of_claim})
    columns = ["claim", "source", "quantity", *rates, "range", "came out", "contrary"]
    rows = [_row(*each, rates) for each in found.items()] if rates else []
    return pd.DataFrame(rows, columns=columns, dtype=object).fillna(cells.DASH)


def verdict(agreements: list[int]) -> str:
    """Say whether a claim came out wherever a setting decides: yes, no, mixed, open; a dash without a setting."""
    if not agreements:
        return cells.DASH
    decided = len(agreements) - agreements.count(0)
    word = {1: "yes", -1: "no", 0: "mixed"}[agreed(agreements)] if decided else "open"
    return f"{word}, one setting" if decided == 1 else word


def _row(claim: Claim, found: list[Pair], rates: list[str]) -> dict[str, str]:
    settings: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        settings.setdefault((pair.setting, pair.rate), []).append(pair)
    decided = {place: agreement(claim, of_setting) for place, of_setting in settings.items()}
    by_rate = {rate: [way for (_, of_rate), way in decided.items() if of_rate == rate] for rate in rates}
    return {
        "claim": claim.claim,
        "source": claim.source,
        "quantity": _words(claim),
        **{
            rate: " : ".join(str(each.count(way)) for way in (1, -1, 0))
            for rate, each in by_rate.items()
            if each
        },
        "range": _range(claim, found),
        "came out": "not asked" if claim.cannot else verdict(list(decided.values())),
        "contrary": claim.cannot or ", ".join(setting for (setting, _), way in decided.items() if way < 0),
    }


def _words(claim: Claim) -> str:
    if claim.cannot:
        return cells.DASH
    arms = style(claim.arm).label
    if isinstance(claim.other, str):
        arms += f" {'/' if QUANTITIES[claim.quantity].ratio else '−'} {style(claim.other).label}"
    return f"{claim.quantity}, {arms}"


def _range(claim: Claim, found: list[Pair]) -> str:
    if not found:
        return cells.DASH
    quantity, paired = QUANTITIES[claim.quantity], isinstance(claim.other, str)
    values = [quantity.compare(pair.ours, pair.other) if paired else pair.ours for pair in found]
    ends = [cells.number(end, None if quantity.ratio else 3) for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))
