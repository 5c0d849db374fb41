"""What others say about the arms, each claim asked of every pair of runs that can answer it.

What is said, and where, stands in `experiments/claims.yaml`. A pair is two arms that share seed, setting, body
weights and batches. A claim that the pairs do not bear out is printed as failed, one they cannot decide as open.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import inf, isnan
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mhc_repro.analysis import stats
from mhc_repro.analysis.arms import style
from mhc_repro.analysis.comparison import Studies
from mhc_repro.analysis.summary import Summary, summarise
from mhc_repro.analysis.tables import cells
from mhc_repro.errors import UserError
from mhc_repro.runs import ENDED, Run, checkout

FILE = Path("experiments/claims.yaml")
LEVEL = 0.05
FEWEST = 6  # pairs that can pass the sign test at that level
NOISE = 0.01  # bits that rounding alone can move a held-out loss: one config, other threads or another commit
EMPTY = "No study has finished runs of two arms of one seed yet: `make quick` makes the first."
CAPTION = (
    "Every pair of runs that share seed and setting is asked, or every run where the other side is a number. "
    f"Equal: neither more nor less, of losses closer than {NOISE:g} bits. Range: from the smallest to the largest "
    "pair, of spikes all of them. A claim holds when the pairs that are not equal agree by a two-sided sign test "
    f"at {LEVEL * 100:g} %, fails when they disagree by it, and is open else; the test needs {FEWEST} pairs and "
    "takes them for independent, which those of one seed are not quite. Contrary: the settings with a pair against "
    "it. All pairs are of small nets, so what fails here may hold at 27B parameters. A run that diverged has an "
    "endless loss."
)
SOURCE = "*Of all recorded studies. Regenerate: `make report`.*"


@dataclass(frozen=True)
class Quantity:
    """A number of a run, and how two of them are set against each other."""

    of: Callable[[Summary], float]
    against: str  # "−", "/" or ":", of the range
    noise: float = 0.0


QUANTITIES = {
    "held-out bpc": Quantity(lambda run: inf if run.state == "diverged" else run.bpc, "−", NOISE),
    "composite gain": Quantity(lambda run: max(run.composite_forward_max, run.composite_backward_max), "/"),
    "activation gain": Quantity(lambda run: run.activation_max, "/"),
    "median body grad norm": Quantity(lambda run: run.grad_body_median, "/"),
    "loss spikes": Quantity(lambda run: run.loss_spikes, ":"),
    "gradient spikes": Quantity(lambda run: run.grad_spikes, ":"),
}


@dataclass(frozen=True)
class Claim:
    """`quantity` of `arm` is above, or below, `times` that of `other`, an arm or a number."""

    claim: str
    source: str
    quantity: str
    arm: str
    other: str | float
    above: bool
    times: float = 1.0


@dataclass(frozen=True)
class Pair:
    """The numbers of two runs, and where they come from."""

    setting: str
    ours: float
    other: float


def load() -> list[Claim]:
    """Read the claims; UserError when the file is not there or cannot be understood."""
    try:
        content = yaml.safe_load((checkout() / FILE).read_text(encoding="utf-8"))
        return [_claim(dict(entry)) for entry in content]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"{FILE}: {' '.join(str(error).split())}; git checkout {FILE} restores it") from None


def part(studies: Studies) -> str:
    """Write the README's part: the table and its caption."""
    frame = table(load(), studies)
    return EMPTY if frame.empty else f"{cells.markdown(frame)}\n\n{CAPTION} {SOURCE}"


def table(claims: list[Claim], studies: Studies) -> pd.DataFrame:
    """Lay out a row for each claim as finished text; none without a pair for any."""
    summary = cache(summarise)  # most runs answer several claims
    found = {claim: pairs(claim, studies, summary) for claim in claims}
    rows = [_row(claim, of_claim) for claim, of_claim in found.items()]
    return pd.DataFrame(rows if any(found.values()) else [], dtype=object)


def pairs(claim: Claim, studies: Studies, summary: Callable[[Run], Summary] = summarise) -> list[Pair]:
    """Find what a claim can be asked of, once each: a run that two studies hold counts in the first."""
    found: dict[tuple[str, ...], Pair] = {}
    value = QUANTITIES[claim.quantity].of
    for setting, ours, other in _matches(claim, studies):
        number = value(summary(other)) if isinstance(other, Run) else float(other)
        pair = Pair(setting, value(summary(ours)), number)
        key = (ours.run_id, other.run_id) if isinstance(other, Run) else (ours.run_id,)
        if not isnan(pair.ours) and not isnan(pair.other):
            found.setdefault(key, pair)
    return list(found.values())


def agreement(claim: Claim, pair: Pair) -> int:
    """Say whether a pair bears a claim out: 1, or -1 for the contrary, 0 for neither."""
    limit = claim.times * pair.other
    if pair.ours == limit or abs(pair.ours - limit) < QUANTITIES[claim.quantity].noise:
        return 0
    return 1 if (pair.ours > limit) == claim.above else -1


def verdict(agreements: list[int]) -> str:
    """Judge a claim by the sign test over its pairs; a dash without a pair."""
    if not agreements:
        return cells.DASH
    agree, disagree = agreements.count(1), agreements.count(-1)
    if len(agreements) >= FEWEST and not agree + disagree:
        return "no difference"
    if stats.sign_test(agree, disagree) > LEVEL:
        return "open"
    return "holds" if agree > disagree else "fails"


def _matches(claim: Claim, studies: Studies) -> Iterator[tuple[str, Run, Run | float]]:
    for of_study in studies.values():
        for comparison in of_study:
            where = f"{comparison.study} {comparison.setting}".strip()
            by_seed = [
                {run.seed: run for run in comparison.arms.get(str(arm), []) if run.state in ENDED}
                for arm in (claim.arm, claim.other)
            ]
            for seed, ours in by_seed[0].items():
                if not isinstance(claim.other, str):
                    yield where, ours, claim.other
                elif seed in by_seed[1]:
                    yield where, ours, by_seed[1][seed]


def _row(claim: Claim, found: list[Pair]) -> dict[str, str]:
    agreements = [agreement(claim, pair) for pair in found]
    equal = agreements.count(0)
    contrary = dict.fromkeys(
        pair.setting for pair, agreed in zip(found, agreements, strict=True) if agreed < 0
    )
    arms = style(claim.arm).label
    if isinstance(claim.other, str):
        arms += f" {QUANTITIES[claim.quantity].against} {style(claim.other).label}"
    return {
        "claim": claim.claim,
        "source": claim.source,
        "quantity": f"{claim.quantity}, {arms}",
        "range": _range(claim, found),
        "agree": f"{agreements.count(1)} of {len(found)}" + (f" ({equal} equal)" if equal else ""),
        "verdict": verdict(agreements),
        "contrary": ", ".join(contrary),
    }


def _range(claim: Claim, found: list[Pair]) -> str:
    against = QUANTITIES[claim.quantity].against
    if not found:
        return cells.DASH
    if against == ":":
        return f"{sum(pair.ours for pair in found):.0f} : {sum(pair.other for pair in found):.0f}"
    if not isinstance(claim.other, str):
        values = [pair.ours for pair in found]
    elif against == "/":
        values = [pair.ours / pair.other for pair in found]
    else:
        values = [pair.ours - pair.other for pair in found]
    ends = [cells.number(end, decimals=3 if against == "−" else None) for end in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def _claim(entry: dict[str, Any]) -> Claim:
    (side,) = {"above", "below"} & set(entry)
    if entry["quantity"] not in QUANTITIES:
        raise ValueError(f"quantity {entry['quantity']!r} is none of {', '.join(QUANTITIES)}")
    return Claim(other=entry.pop(side), above=side == "above", **entry)
