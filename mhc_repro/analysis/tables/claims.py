"""What others say about the arms, each claim asked of every recorded pair of runs that can answer it.

What is said, and where, stands in `experiments/claims.yaml`. A pair is two arms that share seed, setting, body
weights and batches. Pairs are counted and never tested for significance: they are few, of settings that we chose,
and those of one seed are not independent.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mhc_repro.analysis.arms import promises, style
from mhc_repro.analysis.comparison import Studies
from mhc_repro.analysis.summary import Summary, summarise
from mhc_repro.analysis.tables import cells
from mhc_repro.errors import UserError
from mhc_repro.runs import ENDED, Run, checkout

FILE = Path("experiments/claims.yaml")
SIDES = ("above", "below", "at_most")
EMPTY = "No study has finished runs that a claim can be asked of: `make quick` makes the first."
CAPTION = (
    "Every pair of runs that share seed and setting is asked, or every run where the other side is a number. For : "
    "against : even, by peak learning rate. Even: as close as one config run twice can come out, {noise}. "
    "Range: from the smallest to the largest pair; gains and norms are those of the other tables, of the whole "
    "training or of what follows step 128. Came out: yes or no where all pairs that are not even agree; this is a "
    "count and no test. All pairs are of small nets, few seeds, a rate tuned for no arm and short trainings: what "
    "comes out here need not at 27B parameters, and the other way round. HC is that of the mHC paper (Eq. 5). A "
    "run that diverged has an endless loss, gain and gradient."
)
SOURCE = "*Of all recorded studies. Regenerate: `make report`.*"


@dataclass(frozen=True)
class Quantity:
    """A number of a run, how two of them are set against each other, and what two runs of one config differ by."""

    of: Callable[[Summary], float]
    ratio: bool
    noise: float  # of the difference, or of the ratio about 1

    def compare(self, ours: float, other: float) -> float:
        """Give ours / other or ours - other; of two that diverged, neither."""
        if ours == other:
            return 1.0 if self.ratio else 0.0
        return ours / (other or nan) if self.ratio else ours - other


QUANTITIES = {
    "held-out bpc": Quantity(lambda run: run.bpc, False, 0.01),
    "composite gain": Quantity(
        lambda run: max(run.composite_forward_max, run.composite_backward_max), True, 0.1
    ),
    "composite gain forward": Quantity(lambda run: run.composite_forward_max, True, 0.1),
    "activation gain": Quantity(lambda run: run.activation_max, True, 0.15),
    "gradient norm": Quantity(lambda run: run.grad_median, True, 0.02),
    "body gradient norm": Quantity(lambda run: run.grad_body_median, True, 0.02),
    "loss spikes": Quantity(lambda run: run.loss_spikes, False, 0.5),
}


@dataclass(frozen=True)
class Claim:
    """`quantity` of `arm` is on one `side` of `other`, an arm or a number; or why no run can be asked."""

    claim: str
    source: str
    quantity: str = ""
    arm: str = ""
    side: str = ""
    other: str | float = 0.0
    cannot: str = ""


@dataclass(frozen=True)
class Pair:
    """Two runs set against each other, and where they come from."""

    setting: str
    rate: str
    ours: float
    other: float


def load() -> list[Claim]:
    """Read the claims; UserError when the file is not there or an entry cannot be understood."""
    try:
        entries = yaml.safe_load((checkout() / FILE).read_text(encoding="utf-8"))
        return [_claim(dict(entry), set(promises())) for entry in entries]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{FILE}: {' '.join(str(error).split())}; mend it, or git checkout {FILE}") from None


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


def pairs(claim: Claim, studies: Studies, summary: Callable[[Run], Summary] = summarise) -> list[Pair]:
    """Find what a claim can be asked of, once each: a run that two studies hold counts in the first by name."""
    found: dict[tuple[str, ...], Pair] = {}

    def value(run: Run) -> float:
        return inf if run.state == "diverged" else QUANTITIES[claim.quantity].of(summary(run))

    for setting, ours, other in _matches(claim, studies):
        key = (ours.run_id, other.run_id) if isinstance(other, Run) else (ours.run_id,)
        number = value(other) if isinstance(other, Run) else other
        pair = Pair(setting, _rate(ours), value(ours), number)
        if not isnan(pair.ours) and not isnan(pair.other):
            found.setdefault(key, pair)
    return list(found.values())


def agreement(claim: Claim, pair: Pair) -> int:
    """Say whether a pair is for a claim: 1, or -1 against it, 0 even. A number has no noise, and no even."""
    quantity = QUANTITIES[claim.quantity]
    noise = quantity.noise if isinstance(claim.other, str) else 0.0
    gap = quantity.compare(pair.ours, pair.other) - (1.0 if quantity.ratio else 0.0)
    if abs(gap) <= noise:
        return 1 if claim.side == "at_most" else 0
    return 1 if (gap > 0) == (claim.side == "above") else -1


def verdict(agreements: list[int]) -> str:
    """Say whether a claim came out in all pairs that are not even: yes, no, mixed, even; a dash without a pair."""
    if not agreements:
        return cells.DASH
    seen = set(agreements) - {0}
    word = "mixed" if len(seen) > 1 else {1: "yes", -1: "no"}[seen.pop()] if seen else "even"
    return f"{word}, one pair" if len(agreements) == 1 else word


def _matches(claim: Claim, studies: Studies) -> Iterator[tuple[str, Run, Run | float]]:
    for comparison in (each for of_study in studies.values() for each in of_study):
        ours, others = (
            {run.seed: run for run in comparison.arms.get(str(arm), []) if run.state in ENDED}
            for arm in (claim.arm, claim.other)
        )
        for seed, run in ours.items():
            if not isinstance(claim.other, str):
                yield comparison.name, run, claim.other
            elif seed in others:
                yield comparison.name, run, others[seed]


def _rate(run: Run) -> str:
    optim = run.config["optim"]
    return f"at {optim['lr']:g}" + ("" if optim["clip"] else ", no clip")


def _row(claim: Claim, found: list[Pair], rates: list[str]) -> dict[str, str]:
    agreed = [(pair, agreement(claim, pair)) for pair in found]
    by_rate = {rate: [each for pair, each in agreed if pair.rate == rate] for rate in rates}
    ours, against = (
        Counter(pair.setting for pair in found),
        Counter(pair.setting for pair, each in agreed if each < 0),
    )
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
        "came out": "not asked" if claim.cannot else verdict([each for _, each in agreed]),
        "contrary": claim.cannot
        or ", ".join(
            f"{where} ({n} of {ours[where]})" if n < ours[where] else where for where, n in against.items()
        ),
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


def _claim(entry: dict[str, Any], arms: set[str]) -> Claim:
    if "cannot" in entry:
        return Claim(**entry)
    side, *more = [side for side in SIDES if side in entry] or [""]
    if not side or more:
        raise ValueError(f"{entry.get('claim')!r} needs one of {', '.join(SIDES)}")
    other = entry.pop(side)
    claim = Claim(side=side, other=other, **entry)
    is_number = isinstance(claim.other, int | float) and not isinstance(claim.other, bool)
    for arm in (claim.arm, *([] if is_number else [claim.other])):
        if arm not in arms:
            raise ValueError(f"{claim.claim!r}: {arm!r} is no file in conf/connection")
    if claim.quantity not in QUANTITIES:
        raise ValueError(f"{claim.claim!r}: {claim.quantity!r} is none of {', '.join(QUANTITIES)}")
    return claim
