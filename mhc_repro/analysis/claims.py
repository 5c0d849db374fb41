"""What others say about the arms, and whether the recorded runs are for it, against it, or leave it open.

What is said, and where, stands in `experiments/claims.yaml`. A pair is two arms that share seed, setting, body
weights and batches. The pairs of a setting decide together: ten seeds of one net are not ten nets.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan, log, log1p, nan
from pathlib import Path
from typing import Any

import yaml

from mhc_repro.analysis import stats
from mhc_repro.analysis.arms import promises
from mhc_repro.analysis.comparison import Studies
from mhc_repro.analysis.summary import Summary, summarise
from mhc_repro.errors import UserError
from mhc_repro.runs import Run, checkout

FILE = Path("experiments/claims.yaml")
SIDES = ("above", "below", "at_most")


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
        return agreed([_side(claim, gap, 0.0) for gap in gaps])
    if len(gaps) < stats.FEWEST or not all(map(isfinite, gaps)):
        return agreed([_side(claim, gap, quantity.margin) for gap in gaps])
    mean, half = (float(part) for part in stats.t_interval(gaps))
    if claim.side == "at_most" and mean + half <= quantity.margin:
        return 1
    return 0 if abs(mean) <= max(half, quantity.margin) else _side(claim, mean, 0.0)


def agreed(signs: Sequence[int]) -> int:
    """Return what all signs but the zeros are, 0 where they contradict each other or there is none."""
    seen = set(signs) - {0}
    return seen.pop() if len(seen) == 1 else 0


def _side(claim: Claim, gap: float, margin: float) -> int:
    if abs(gap) <= margin:
        return 1 if claim.side == "at_most" else 0
    return 1 if (gap > 0) == (claim.side == "above") else -1


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
