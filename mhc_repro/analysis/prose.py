"""Numbers within a sentence, by an expression over the ledger.

    composite hc in depth blocks 16             smallest to largest of the runs: "2,605 to 5,820"
    bpc mhc - hc in stress                      of the differences, paired by seed
    bpc mhc - hc in seeds: mean                 their mean ± half-width of the 95 % t interval
    bpc mhc - hc: settings above                in how many settings of the front page the mean is above the noise
    bpc mhc - baseline in edge at best: mean    each at the rate where its own loss is lowest, seed by seed
    rate mhc in edge at best: each              that rate
    bench step_ratio mhc                        of the newest record of the bench
    runs, runs hc, runs diverged hc in edge     how many are recorded, how many of an arm, how many of them diverged
    torture kills, torture wrong                how many were tried by make torture, how many of all went wrong

An expression names a quantity of the ledger, or `rate`, the peak learning rate, then one arm or two, and where:
studies or settings, by the beginning of their names less the commas in them, separated by commas; without `in`, the
settings of the front page.
"""

import re
from collections.abc import Callable, Sequence
from itertools import chain
from math import isnan
from pathlib import Path
from statistics import fmean

from mhc_repro.analysis.tables import cells
from mhc_repro.arm_files import abouts
from mhc_repro.bench.records import newest
from mhc_repro.errors import UserError
from mhc_repro.evidence import stats, torture
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.evidence.ledger import LEDGER, Quantity, Recorded, values
from mhc_repro.evidence.sweeps import LR, rate, sweeps
from mhc_repro.runs import ENDED, Run

FORMS = ("range", "size", "each", "mean", "smallest", "largest", "pairs")
COUNTS = ("settings", "settings above", "settings below", "settings even")
RATE = Quantity("rate", "peak learning rate", "1", lambda recorded: rate(recorded.run, LR))
ByArm = Callable[[str], dict[int, Run]]  # an arm's runs by seed
_EXPRESSION = re.compile(
    r"(?P<quantity>\w+) (?P<arm>\w+)(?: (?P<sign>[-/]) (?P<other>\w+))?"
    r"(?: in (?P<where>[^:]+?)(?P<best> at best)?)?(?:: (?P<form>.+))?"
)


def number(expression: str, studies: Studies, front: Sequence[Comparison], root: Path) -> str:
    """Work an expression out; UserError for one that cannot be read, a dash where nothing was measured."""
    if expression.startswith("bench "):
        return _bench(expression, root)
    if expression.startswith("torture "):
        tried = torture.count(root, expression.removeprefix("torture "))
        return cells.DASH if tried is None else cells.number(tried, 0)
    if expression.partition(" ")[0] == "runs":
        return _runs(expression, studies)
    asked = _EXPRESSION.fullmatch(expression.strip())
    form = (asked["form"] or "range") if asked else ""
    if asked is None or asked["quantity"] not in (RATE.name, *LEDGER) or form not in (*FORMS, *COUNTS):
        raise UserError(
            f"<!-- n:{expression} -->: write QUANTITY ARM [- ARM] [in STUDY]: FORM with a quantity of "
            f"mhc_repro/evidence/ledger.py and a form of {', '.join((*FORMS, *COUNTS))}"
        )
    quantity = RATE if asked["quantity"] == RATE.name else LEDGER[asked["quantity"]]
    found = [
        [one for one in _numbers(runs, quantity, asked) if not isnan(one)]
        for runs in _settings(studies, front, asked)
    ]
    found = [of_setting for of_setting in found if of_setting]
    if not found:
        return cells.DASH
    return _count(found, quantity, form) if form in COUNTS else _text([*chain(*found)], quantity, asked, form)


def _settings(studies: Studies, front: Sequence[Comparison], asked: re.Match[str]) -> list[ByArm]:
    """Give what reads an arm's runs by seed, for each setting that is asked for."""
    if not asked["where"]:
        return [each.ended for each in front]
    if asked["best"]:
        found = [sweep for of_study in studies.values() for sweep in sweeps(of_study, LR)]
        return [each.at_best for each in found if _is_in(each.whole, asked["where"])]
    return [each.ended for each in chain(*studies.values()) if _is_in(each, asked["where"])]


def _is_in(setting: Comparison, where: str) -> bool:
    name = f"{setting.name} ".replace(",", "")
    return name.startswith(tuple(f"{start.strip()} " for start in where.split(",")))


def _numbers(runs: ByArm, quantity: Quantity, asked: re.Match[str]) -> list[float]:
    ours, other = (
        {seed: _value(run, quantity) for seed, run in runs(arm).items()} if arm else {}
        for arm in (asked["arm"], asked["other"])
    )
    if asked["other"] is None:
        return list(ours.values())
    compare = stats.ratio if asked["sign"] == "/" else float.__sub__
    return [compare(ours[seed], other[seed]) for seed in ours if seed in other]


def _value(run: Run, quantity: Quantity) -> float:
    return quantity.read(Recorded(run)) if quantity is RATE else values(run)[quantity.name]


def _count(found: Sequence[Sequence[float]], quantity: Quantity, form: str) -> str:
    means = [fmean(of_setting) for of_setting in found]
    above, below = (sum(sign * mean > quantity.noise for mean in means) for sign in (1, -1))
    counts = {"above": above, "below": below, "even": len(means) - above - below}
    return str(counts.get(form.rpartition(" ")[2], len(means)))


def _text(numbers: Sequence[float], quantity: Quantity, asked: re.Match[str], form: str) -> str:
    decimals = 2 if asked["sign"] == "/" else quantity.decimals
    if form == "pairs":
        return str(len(numbers))
    if form in ("each", "mean"):
        return (
            cells.cell(numbers, decimals)
            if form == "mean" or len(numbers) < stats.FEWEST
            else " / ".join(cells.number(one, decimals) for one in numbers)
        )
    sizes = [abs(one) for one in numbers] if form == "size" else list(numbers)
    ends = {"smallest": [min(sizes)], "largest": [max(sizes)]}.get(form, [min(sizes), max(sizes)])
    return " to ".join(dict.fromkeys(cells.number(end, decimals) for end in ends))


def _runs(expression: str, studies: Studies) -> str:
    what, _, where = expression.partition(" in ")
    said = what.split()[1:]
    settings = [each for each in chain(*studies.values()) if not where or _is_in(each, where)]
    if strange := set(said) - {*ENDED, *abouts()}:
        raise UserError(f"<!-- n:{expression} -->: {min(strange)} is neither {', '.join(ENDED)} nor an arm")
    return str(sum({run.state, run.connection} >= set(said) for each in settings for run in each.runs))


def _bench(expression: str, root: Path) -> str:
    _, key, arm = expression.split()
    record = next(iter(newest(root)), None)
    number = record["connections"].get(arm, {}).get(key) if record else None
    return cells.DASH if number is None else cells.number(number, 2)
