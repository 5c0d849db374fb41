"""What others say about the arms, and whether the recorded runs are for it, against it, or leave it open.

What is said, and where, stands in `experiments/claims.yaml`. A pair is two arms that share seed, setting, body
weights and batches. The pairs of a setting decide together, whichever studies hold them: ten seeds of one net are
not ten nets. Below three pairs nothing is decided. With the scatter of the six seeds of study `seeds`, one pair
outside the noise would decide a claim about losses that is null in 25 % of cases (HC against the baseline) to 82 %
(mHC against it), two that do not contradict each other in 40 to 64 %; three and their interval do in 1 to 5 %.

Settings that differ in length or size are no sample, and do not vote. Each kind of setting is counted apart, and
what the longest trainings say that decide anything is what comes out. That a number is reached is said of some
setting, not of each: one setting all of whose runs are past it is a yes, and a no is that no run of any is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isinf, isnan
from pathlib import Path

from msgspec import Struct

from mhc_repro.arm_files import arm_names
from mhc_repro.errors import unusable
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison, Kind
from mhc_repro.evidence.kept import kept
from mhc_repro.evidence.ledger import LEDGER, by_seed

FILE = Path("experiments/claims.yaml")
SIDES = ("above", "below", "at_most", "reaches")

OPEN = "open"  # of a claim: no setting decides it


class Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """`quantity` of `arm` is on one side of another arm's or of a number; or why no run can be asked.

    `reaches`: in some setting it is above that number, which need not be so in every one.
    `means`: how far a yes reaches, where it is easily read as more.
    """

    claim: str
    source: str
    quantity: str = ""
    arm: str = ""
    above: str | float | None = None
    below: str | float | None = None
    at_most: str | float | None = None
    reaches: float | None = None
    cannot: str = ""
    means: str = ""

    @property
    def sides(self) -> dict[str, str | float]:
        """On which sides of what, one in a claim that can be asked."""
        return {side: other for side in SIDES if (other := getattr(self, side)) is not None}

    @property
    def side(self) -> str:
        return next(iter(self.sides), "")

    @property
    def other(self) -> str | float:
        return next(iter(self.sides.values()), 0.0)


@dataclass(frozen=True)
class Pair:
    """Two runs set against each other, or a run and a number."""

    ours: float
    other: float


@dataclass(frozen=True)
class Asked:
    """The pairs of one setting that a claim can be asked of, named by the studies that hold runs of its arm."""

    setting: str
    kind: Kind
    pairs: list[Pair]


def load() -> list[Claim]:
    """Read the claims; UserError when the file is not there or an entry cannot be understood."""
    found = kept(FILE, list[Claim])
    if fault := next(filter(None, map(_fault, found)), ""):
        raise unusable(FILE, fault)
    return found


def ask(claim: Claim, settings: Sequence[Comparison]) -> list[Asked]:
    """Find the settings that hold pairs for a claim, the longest and largest trainings first."""

    def pairs(setting: Comparison) -> list[Pair]:
        ours, others = (by_seed(setting.ended(arm), claim.quantity) for arm in (claim.arm, str(claim.other)))
        if not isinstance(claim.other, str):
            others = dict.fromkeys(ours, claim.other)
        found = [Pair(ours[seed], others[seed]) for seed in ours if seed in others]
        return [pair for pair in found if not isnan(pair.ours) and not isnan(pair.other)]

    def held(setting: Comparison) -> str:
        studies = {run.study for run in setting.arms.get(claim.arm, [])}
        return " + ".join(part for part in setting.name.split(" + ") if part.partition(" ")[0] in studies)

    found = [Asked(held(setting), setting.kind, pairs(setting)) for setting in settings]
    return sorted((each for each in found if each.pairs), key=lambda each: each.kind, reverse=True)


def agreement(claim: Claim, found: Sequence[Pair], layers: int) -> int:
    """Say whether the pairs of one setting are for a claim: 1, or -1 against it, 0 where they leave it open.

    From three pairs on their interval decides. Where runs diverged there is none, and it takes that all of one arm
    did and none of the other: of six runs that diverge by the toss of a coin, 3 % come out so. A number is said of
    every run: one on its other side is against, and three are for it if none is. What is reached
    is so by all runs, and is not by none. The number of `layers` says how much a run repeated differs.
    """
    quantity = LEDGER[claim.quantity]
    gaps = [gap for gap in (quantity.gap(pair.ours, pair.other) for pair in found) if not isnan(gap)]
    if claim.side == "reaches":
        return agreed([1 if gap > 0 else -1 for gap in gaps])
    if not isinstance(claim.other, str) and any(_side(claim, gap) < 0 for gap in gaps):
        return -1
    if len(gaps) < stats.FEWEST:
        return 0
    if not isinstance(claim.other, str):
        return agreed([_side(claim, gap) for gap in gaps])
    if not all(map(isfinite, gaps)):
        both = any(isinf(pair.ours) and isinf(pair.other) for pair in found)
        return _side(claim, gaps[0]) if len(set(gaps)) == 1 and not both else 0
    between = stats.interval(gaps)
    margin = quantity.margin(layers)
    if claim.side == "at_most" and between.mean + between.half <= margin:
        return 1
    way = between.side(margin)
    return _side(claim, way) if way else 0


def agreed(signs: Sequence[int]) -> int:
    """Return what all signs but the zeros are, 0 where they contradict each other or there is none."""
    seen = set(signs) - {0}
    return seen.pop() if len(seen) == 1 else 0


def verdict(claim: Claim, found: Sequence[tuple[Asked, int]]) -> str:
    """Say what came out in the longest trainings that decide: yes, no or mixed, of what length; or open.

    Of a setting that decides alone the size is said. Of what is reached: where, or that it is nowhere.
    """
    if claim.side == "reaches":
        where = dict.fromkeys(str(asked.kind) for asked, way in found if way > 0)
        nowhere = found and all(way < 0 for _, way in found)
        return f"yes, at {'; '.join(where)}" if where else "no, nowhere" if nowhere else OPEN
    decided = [(asked, way) for asked, way in found if way]
    if not decided:
        return OPEN
    longest = max(asked.kind for asked, _ in decided).length
    there = [(asked, way) for asked, way in decided if asked.kind.length == longest]
    word = {1: "yes", -1: "no", 0: "mixed"}[agreed([way for _, way in there])]
    return f"{word}, at {there[0][0].kind if len(there) == 1 else longest}"


def _side(claim: Claim, gap: float) -> int:
    if gap == 0:
        return 1 if claim.side == "at_most" else 0
    return 1 if (gap > 0) == (claim.side == "above") else -1


def _fault(claim: Claim) -> str:
    if claim.cannot:
        return ""
    if len(claim.sides) != 1:
        return f"{claim.claim!r} needs one of {', '.join(SIDES)}"
    for arm in (claim.arm, claim.other):
        if isinstance(arm, str) and arm not in arm_names():
            return f"{claim.claim!r}: {arm!r} is no file in conf/connection"
    known = [name for name, each in LEDGER.items() if not isnan(each.noise)]
    if claim.quantity not in known:
        return f"{claim.claim!r}: {claim.quantity!r} is none of {', '.join(known)}"
    return ""
