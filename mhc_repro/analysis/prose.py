"""Numbers within a sentence, by an expression over the ledger.

    composite hc in depth blocks 16             smallest to largest of the runs: "2,605 to 5,820"
    bpc mhc - hc in stress                      of the differences, paired by seed
    bpc mhc - hc in seeds: mean                 their mean ± half-width of the 95 % t interval
    bpc mhc - hc: settings above                in how many settings of the front page the mean is above the noise
    bpc mhc - hc: settings decided              in how many their interval leaves out zero, and the noise
    bpc mhc - baseline in edge at best: mean    each seed at its own best rate, chosen by its validation loss
    bpc mhc - baseline in family at one rate    each arm at the rate of its study that is best in the mean
    rate mhc in edge at best: each              that rate
    sensitivity mhc - identity in edge: mean    how much the two mind their rate
    bench step_ratio mhc                        of the newest record of the bench
    monitor look_ratio, monitor cost_percent    of the newest record of what watching a model costs, over its models
    runs, runs hc, runs diverged hc in edge     how many trainings are recorded, of an arm, diverged; one that two
                                                studies share, or measure differently, counts once
    runs off_the_constraint mhc in maps         how many of them have such a verdict
    torture kills, torture wrong                how many were tried by make torture, how many of all went wrong

An expression names a quantity of the ledger, `rate`, the peak learning rate, or `sensitivity`, then one arm or two,
and where: studies or settings, by the beginning of their names less the commas in them, separated by commas;
without `in`, the settings of the front page.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from math import isnan
from pathlib import Path
from statistics import fmean

from mhc_repro.analysis import printed
from mhc_repro.arm_files import abouts
from mhc_repro.bench.records import MONITOR, newest
from mhc_repro.errors import UserError
from mhc_repro.evidence import stats, torture
from mhc_repro.evidence.comparison import Comparison, Studies, training_key
from mhc_repro.evidence.ledger import LEDGER, Quantity, values
from mhc_repro.evidence.sweeps import LR, Sweep, completed, rate, sweeps
from mhc_repro.evidence.verdicts import Verdict, verdict
from mhc_repro.places import checkout
from mhc_repro.runs import ENDED, Run

FORMS = ("range", "size", "each", "mean", "smallest", "largest")
COUNTS = ("settings", "settings above", "settings below", "settings decided")
RATE, SENSITIVITY = "rate", "sensitivity"
NAMES = (RATE, SENSITIVITY, *LEDGER)
AT = {"best": Sweep.at_best, "one rate": Sweep.at_one_rate}
BySeed = Callable[[str], dict[int, float]]  # an arm's numbers in a setting
_EXPRESSION = re.compile(
    r"(?P<quantity>\w+) (?P<arm>\w+)(?: (?P<sign>[-/]) (?P<other>\w+))?"
    r"(?: in (?P<where>[^:]+?)(?: at (?P<at>best|one rate))?)?(?:: (?P<form>.+))?"
)


def number(expression: str, studies: Studies, front: Sequence[Comparison], root: Path) -> str:
    """Work an expression out; UserError for one that cannot be read, a dash where nothing was measured."""
    if expression.startswith("bench "):
        return _bench(expression, root)
    if expression.startswith("monitor "):
        return _monitor(expression, root)
    if expression.startswith("torture "):
        tried = torture.count(root, expression.removeprefix("torture "))
        return printed.DASH if tried is None else printed.number(tried, 0)
    if expression.partition(" ")[0] == "runs":
        return _runs(expression, studies)
    asked = _EXPRESSION.fullmatch(expression.strip())
    form = (asked["form"] or "range") if asked else ""
    if asked is None or asked["quantity"] not in NAMES or form not in (*FORMS, *COUNTS):
        raise UserError(
            f"<!-- n:{expression} -->: write QUANTITY ARM [- ARM] [in STUDY]: FORM with a quantity of "
            f"mhc_repro/evidence/ledger.py and a form of {', '.join((*FORMS, *COUNTS))}"
        )
    _check(expression, studies, asked["where"] or "", arms={asked["arm"], asked["other"] or asked["arm"]})
    quantity = LEDGER.get(asked["quantity"])
    counted = (
        quantity is not None and asked["sign"] == "-" and not quantity.ratio and not isnan(quantity.noise)
    )
    if form in COUNTS and not counted:
        raise UserError(f"<!-- n:{expression} -->: settings are counted of differences whose noise is known")
    settings = _settings(studies, front, asked)
    found = [(layers, gaps) for layers, read in settings if (gaps := _paired(read, asked))]
    if not found:
        return printed.DASH
    if form == "mean" and len(found) > 1:
        raise UserError(f"<!-- n:{expression} -->: a mean over {len(found)} settings; name one")
    if quantity is not None and form in COUNTS:
        return _count([(quantity.noise_of(layers), gaps) for layers, gaps in found], form)
    return _text([gap for _, gaps in found for gap in gaps], quantity, asked, form)


def _check(expression: str, studies: Studies, where: str, arms: set[str]) -> None:
    known = {*abouts(), *(arm for each in chain(*studies.values()) for arm in each.arms)}
    if strange := arms - known:
        raise UserError(f"<!-- n:{expression} -->: {min(strange)} is no arm")
    named = {*studies, *(path.stem for path in (checkout() / "conf" / "study").glob("*.yaml"))}
    for place in filter(None, (place.strip() for place in where.split(","))):
        study, _, setting = place.partition(" ")
        if study not in named:
            raise UserError(f"<!-- n:{expression} -->: {place} is no study, nor a setting of one")
        of_study = studies.get(study, [])
        plain = any(_is_in(each, place) for each in of_study)
        if (
            setting
            and of_study
            and not (plain or any(_is_in(one.whole, place) for one in sweeps(of_study, LR)))
        ):
            there = "; ".join(each.name for each in of_study)
            raise UserError(f"<!-- n:{expression} -->: {place} is no setting; there are {there}")


def _settings(
    studies: Studies, front: Sequence[Comparison], asked: re.Match[str]
) -> list[tuple[int, BySeed]]:
    """Give sub-layers, and what reads an arm's numbers by seed, for each setting that is asked for."""
    where, name = asked["where"] or "", asked["quantity"]
    at = AT.get(asked["at"] or "")
    wanted = studies if at or name == SENSITIVITY else {}
    if at is Sweep.at_one_rate:
        found = (
            completed(of_study, studies, LR) for study, of_study in wanted.items() if _names(where, study)
        )
    else:
        found = (sweeps(of_study, LR) for of_study in wanted.values())
    whole = [sweep for of_study in found for sweep in of_study if _is_in(sweep.whole, where)]
    if name == SENSITIVITY:
        return [(each.whole.kind.layers, each.sensitivity) for each in whole]

    def read(run: Run) -> float:
        return rate(run, LR) if name == RATE else values(run)[name]

    def reader(runs: Callable[[str], dict[int, Run]]) -> BySeed:
        return lambda arm: {seed: read(run) for seed, run in runs(arm).items()}

    if at:
        return [(each.whole.kind.layers, reader(partial(at, each))) for each in whole]
    every = [each for each in chain(*studies.values()) if _is_in(each, where)] if where else front
    return [(each.kind.layers, reader(each.ended)) for each in every]


def _names(where: str, study: str) -> bool:
    return any(f"{place.strip()} ".startswith(f"{study} ") for place in where.split(","))


def _is_in(setting: Comparison, where: str) -> bool:
    name = f"{setting.name} ".replace(",", "")
    return name.startswith(tuple(f"{start.strip()} " for start in where.split(",")))


def _paired(of_setting: BySeed, asked: re.Match[str]) -> list[float]:
    """Return an arm's numbers in a setting, or what sets them apart from another's of the same seeds."""
    found = of_setting(asked["arm"])
    if asked["other"]:
        compare = stats.ratio if asked["sign"] == "/" else float.__sub__
        other = of_setting(asked["other"])
        found = {seed: compare(found[seed], other[seed]) for seed in found.keys() & other.keys()}
    return [found[seed] for seed in sorted(found) if not isnan(found[seed])]


def _count(found: Sequence[tuple[float, Sequence[float]]], form: str) -> str:
    """Count settings, each its noise and its differences."""
    if form == "settings decided":
        return str(sum(stats.interval(gaps).side(noise) != 0 for noise, gaps in found))
    signs = {"above": 1, "below": -1}
    sign = signs.get(form.rpartition(" ")[2])
    return str(len(found) if sign is None else sum(sign * fmean(gaps) > noise for noise, gaps in found))


def _text(numbers: Sequence[float], quantity: Quantity | None, asked: re.Match[str], form: str) -> str:
    decimals = 3 if quantity is None else quantity.decimals
    decimals = 2 if asked["sign"] == "/" else decimals
    write = "{:g}".format if asked["quantity"] == RATE else partial(printed.number, decimals=decimals)
    if form == "mean":
        return printed.cell(numbers, decimals)
    if form == "each":
        return " / ".join(map(write, numbers))
    sizes = [abs(one) for one in numbers] if form == "size" else list(numbers)
    return _range({"smallest": [min(sizes)], "largest": [max(sizes)]}.get(form, sizes), write)


def _range(numbers: Sequence[float], write: Callable[[float], str]) -> str:
    return " to ".join(dict.fromkeys(map(write, (min(numbers), max(numbers)))))


def _runs(expression: str, studies: Studies) -> str:
    what, _, where = expression.partition(" in ")
    said = set(what.split()[1:])
    judged = said & {*Verdict._fields}
    _check(expression, studies, where, said - judged - {*ENDED})
    settings = [each for each in chain(*studies.values()) if not where or _is_in(each, where)]
    found = (run for each in settings for run in each.runs if {run.state, run.connection} >= said - judged)
    return str(
        len({training_key(run) for run in found if all(getattr(verdict(run), word) for word in judged)})
    )


def _bench(expression: str, root: Path) -> str:
    record = next(iter(newest(root)), None)
    match expression.split():
        case [_, key, arm] if record is None or key in record["connections"].get(arm, {}):
            return printed.DASH if record is None else printed.number(record["connections"][arm][key], 2)
    raise UserError(f"<!-- n:{expression} -->: write bench KEY ARM, of an arm and a number that it measured")


def _monitor(expression: str, root: Path) -> str:
    decimals = {"look_ratio": 2, "cost_percent": 1}.get(key := expression.partition(" ")[2])
    if decimals is None:
        raise UserError(f"<!-- n:{expression} -->: write monitor look_ratio, or monitor cost_percent")
    found = newest(root, MONITOR)[:1]
    numbers = [each[key] for record in found for each in record["monitored"].values()]
    return _range(numbers, partial(printed.number, decimals=decimals)) if numbers else printed.DASH
