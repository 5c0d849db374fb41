"""A study's runs over a rate that it sweeps: one grid for every arm, held-out bits at each of its rates by seed.

A rate is chosen by the bits of the validation split, and what is then shown of it is of the test split. So is the
sensitivity, but for l_0: before the first step the validation split alone is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isnan, nan
from operator import itemgetter
from statistics import fmean

from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import MEASURED, Comparison, Studies, alike, comparisons, settings
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.readings import bits_at_start
from mhc_repro.evidence.sensitivity import best, sensitivity
from mhc_repro.runs import ENDED, Run

LR, MAPS_LR = "optim.lr", "optim.connection_lr"
SWEPT = {LR: "peak learning rate", MAPS_LR: "rate of the maps over the body's"}
# What the figures of single settings show of a sweep, chosen before any was recorded
DRAWN = {LR: (1e-3, 3e-3, 1e-2), MAPS_LR: (1.0, 10.0, 100.0)}
FEWEST = 3  # rates that make a grid
# Bits of a byte of so many test windows of so many bytes under the frequencies of the training text's bytes: what a
# net knows without any context
FREQUENCIES = {("enwik8", 512, 128): 5.095, ("enwik8", 2048, 128): 5.118}


@dataclass(frozen=True)
class Sweep:
    """The runs of a setting at all values of one rate."""

    key: str  # of SWEPT
    whole: Comparison

    @cached_property
    def grid(self) -> list[float]:
        """All rates that any arm has, ascending: what lacks one has a hole there."""
        return sorted({rate(run, self.key) for run in self.whole.runs})

    @property
    def broken(self) -> float:
        """The bits from which on a net has lost its way; NaN where they are not known for the data."""
        data, train = (self.whole.runs[0].config[part] for part in ("data", "train"))
        return FREQUENCIES.get((data["name"], train["test_windows"], data["sequence"]), nan)

    def runs(self, arm: str) -> dict[tuple[int, float], Run]:
        """Return an arm's runs by seed and rate."""
        return {(run.seed, rate(run, self.key)): run for run in self.whole.arms.get(arm, [])}

    def bits(self, arm: str, split: str = "test") -> dict[int, list[float]]:
        """Return bits at the end by seed, one a rate: infinite where a run diverged, NaN where there is none."""
        found = {at: _bits(run, split) for at, run in self.runs(arm).items()}
        seeds = sorted({seed for seed, _ in found})
        return {seed: [found.get((seed, each), nan) for each in self.grid] for seed in seeds}

    def sensitivity(self, arm: str) -> dict[int, float]:
        """Return an arm's LR sensitivity by seed; NaN where a rate of the grid is missing."""
        start = {run.seed: bits_at_start(run, "val") for run in self.whole.arms.get(arm, [])}
        return {seed: sensitivity(bits, start.get(seed, nan)) for seed, bits in self.bits(arm).items()}

    def at_best(self, arm: str) -> dict[int, Run]:
        """Return an arm's run at each seed's own best rate; none where a rate of the grid is missing."""
        found, runs = self.bits(arm, "val"), self.runs(arm)
        chosen_rates = {seed: best(self.grid, bits) for seed, bits in found.items()}
        return {seed: runs[seed, lowest] for seed, lowest in chosen_rates.items() if not isnan(lowest)}

    def at_one_rate(self, arm: str) -> dict[int, Run]:
        """Return an arm's runs by seed at its best rate, by the mean over the seeds that all of its rates have."""
        by_rate: dict[float, dict[int, Run]] = {}
        for run in self.whole.arms.get(arm, []):
            if run.state in ENDED:
                by_rate.setdefault(rate(run, self.key), {})[run.seed] = run
        tried = [by_rate[each] for each in sorted(by_rate)]
        shared = set.intersection(*map(set, tried)) if tried else set()
        means = [fmean(_bits(runs[seed], "val") for seed in shared) if shared else nan for runs in tried]
        known = [(mean, runs) for mean, runs in zip(means, tried, strict=True) if not isnan(mean)]
        return min(known, key=itemgetter(0), default=(nan, {}))[1]


def _bits(run: Run, split: str) -> float:
    return inf if run.state == "diverged" else values(run)[f"bpc_{split}"]


def rate(run: Run, key: str) -> float:
    """Read a run's value of a setting that may be swept."""
    return float(settings(run).get(key, nan))


def sweeps(of_study: Sequence[Comparison], key: str) -> list[Sweep]:
    """Find the settings of a study in which `key` takes rates enough for a grid."""
    found = comparisons([run for each in of_study for run in each.runs], swept=key) if of_study else []
    return [sweep for sweep in (Sweep(key, each) for each in found) if len(sweep.grid) >= FEWEST]


def completed(of_study: Sequence[Comparison], studies: Studies, key: str) -> list[Sweep]:
    """Sweep `key` in a study; where it lacks a run, with another study's that is measured most like its own."""
    every = [each for other in studies.values() for each in other]
    found = comparisons([run for each in of_study for run in each.runs], swept=key)
    return [Sweep(key, replace(each, arms=_completed(each, every, key))) for each in found]


def _completed(whole: Comparison, every: Sequence[Comparison], key: str) -> dict[str, list[Run]]:
    asked = {rate(run, key) for run in whole.runs}
    like = settings(whole.runs[0]).items()

    def last_counts(run: Run) -> tuple[bool, int]:
        return run.study == whole.study, len(settings(run).items() & like)

    arms = {}
    for arm, of_nets in same_nets(whole, every, key).items():
        runs = {(run.seed, rate(run, key)): run for run in sorted(of_nets, key=last_counts)}
        arms[arm] = [runs[at] for at in sorted(runs) if at[0] in whole.seeds and at[1] in asked]
    return arms


def tuned(setting: Comparison, every: Sequence[Comparison]) -> Sweep | None:
    """Sweep the learning rate of the nets that a setting trains at one, over all studies that have them."""
    sweep = Sweep(LR, Comparison(setting.study, "", same_nets(setting, every, LR)))
    return sweep if len(sweep.grid) >= FEWEST else None


def same_nets(setting: Comparison, every: Sequence[Comparison], key: str) -> dict[str, list[Run]]:
    """Gather the runs of the nets that a setting trains, at any value of `key`, over all studies that have them."""
    of_nets = [each for each in every if alike(each, setting, but=(*MEASURED, key))]
    return {arm: [run for each in of_nets for run in each.arms.get(arm, [])] for arm in setting.arms}


def drawn(of_study: Sequence[Comparison]) -> list[Comparison]:
    """Choose the settings that have figures of their own: all but of the studies of `chosen.yaml`, and of a sweep.

    Of a sweep they are the rates of DRAWN, if it has any.
    """
    found = list(of_study)
    if named := [name for each in found[:1] for name in chosen().drawn.get(each.study, ())]:
        return [each for each in found if each.setting in named] or found
    for key, few in DRAWN.items():
        if sweeps(of_study, key):
            found = [each for each in found if rate(each.runs[0], key) in few] or found
    return found
