"""What others say about the arms, each claim asked of every recorded pair of runs that can answer it.

What is said, and where, stands in `experiments/claims.yaml`. A pair is two arms that share seed, setting, body
weights and batches. The pairs of a setting decide together, and settings are counted: ten seeds of one net are not
ten nets. No test runs over settings, which we chose and which share seeds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf, isfinite, isnan, log, log1p, nan
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mhc_repro.analysis import stats
from mhc_repro.analysis.arms import promises, style
from mhc_repro.analysis.comparison import Studies
from mhc_repro.analysis.summary import Summary, summarise
from mhc_repro.analysis.tables import cells
from mhc_repro.errors import UserError
from mhc_repro.runs import Run, checkout

FILE = Path("experiments/claims.yaml")
SIDES = ("above", "below", "at_most")
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

    def gap(self, ours: float, other: float) -> float:
        """Give the difference, or the logarithm of the ratio: 0 where the two are the same."""
        compared = self.compare(ours, other)
        return compared if not self.ratio else log(compared) if compared > 0 else -inf

    @property
    def margin(self) -> float:
        """The noise on the scale of a gap."""
        return log1p(self.noise) if self.ratio else self.noise


QUANTITIES = {
    "held-out bpc": Quantity(lambda run: run.bpc, False, 0.01),
    "composite gain": Quantity(lambda run: run.composite_max, True, 0.1),
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


def agreement(claim: Claim, found: Sequence[Pair]) -> int:
    """Say whether the pairs of one setting are for a claim: 1, or -1 against it, 0 where they leave it open."""
    quantity = QUANTITIES[claim.quantity]
    gaps = [quantity.gap(pair.ours, pair.other) for pair in found]
    if not isinstance(claim.other, str):  # a number has no noise, and no even
        return _agreed([_side(claim, gap, 0.0) for gap in gaps])
    if len(gaps) < stats.FEWEST or not all(map(isfinite, gaps)):
        return _agreed([_side(claim, gap, quantity.margin) for gap in gaps])
    mean, half = (float(part) for part in stats.t_interval(gaps))
    if claim.side == "at_most" and mean + half <= quantity.margin:
        return 1
    return 0 if abs(mean) <= max(half, quantity.margin) else _side(claim, mean, 0.0)


def verdict(agreements: list[int]) -> str:
    """Say whether a claim came out wherever a setting decides: yes, no, mixed, open; a dash without a setting."""
    if not agreements:
        return cells.DASH
    decided = len(agreements) - agreements.count(0)
    word = {1: "yes", -1: "no", 0: "mixed"}[_agreed(agreements)] if decided else "open"
    return f"{word}, one setting" if decided == 1 else word


def _side(claim: Claim, gap: float, margin: float) -> int:
    if abs(gap) <= margin:
        return 1 if claim.side == "at_most" else 0
    return 1 if (gap > 0) == (claim.side == "above") else -1


def _agreed(signs: Sequence[int]) -> int:
    """Return what all signs but the zeros are, 0 where they contradict each other or there is none."""
    seen = set(signs) - {0}
    return seen.pop() if len(seen) == 1 else 0


def _matches(claim: Claim, studies: Studies) -> Iterator[tuple[str, Run, Run | float]]:
    for comparison in (each for of_study in studies.values() for each in of_study):
        others = comparison.ended(str(claim.other))
        for seed, run in comparison.ended(claim.arm).items():
            if not isinstance(claim.other, str):
                yield comparison.name, run, claim.other
            elif seed in others:
                yield comparison.name, run, others[seed]


def _rate(run: Run) -> str:
    optim = run.config["optim"]
    return f"at {optim['lr']:g}" + ("" if optim["clip"] else ", no clip")


def _row(claim: Claim, found: list[Pair], rates: list[str]) -> dict[str, str]:
    settings: dict[tuple[str, str], list[Pair]] = {}
    for pair in found:
        settings.setdefault((pair.setting, pair.rate), []).append(pair)
    agreed = {place: agreement(claim, of_setting) for place, of_setting in settings.items()}
    by_rate = {rate: [way for (_, of_rate), way in agreed.items() if of_rate == rate] for rate in rates}
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
        "came out": "not asked" if claim.cannot else verdict(list(agreed.values())),
        "contrary": claim.cannot or ", ".join(setting for (setting, _), way in agreed.items() if way < 0),
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
