"""A study's arms over the rates it sweeps: each at its own best, how much it minds, and where it breaks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import isnan, nan

import pandas as pd

from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.evidence import stats
from mhc_repro.evidence.comparison import Comparison
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.sensitivity import largest_stable
from mhc_repro.evidence.styles import BASELINE, style
from mhc_repro.evidence.sweeps import FREQUENCIES, LR, MAPS_LR, Sweep, rate, sweeps

TITLES = {LR: "Over learning rates", MAPS_LR: "Over the rate of the maps"}
GRID = (
    "Held-out bits per character at the end. The grid is all rates that the study has in a setting; what lacks one "
    "has no number over the grid, only a dash. Best: the rate with the lowest validation loss, seed by seed, and "
    "the held-out bits there. "
)
CAPTION = (
    "Sensitivity: mean over the grid of min(loss, loss at the start) minus the lowest of the grid (Wortsman et "
    "al., arXiv 2309.14322, there in nats), a run that diverged counting as the start. Largest stable: the "
    "largest rate up to which no run diverged or, past the best rate, ended no better than the frequencies of "
    "bytes alone do on the same windows of enwik8 ({frequencies}); ≥: the grid ends there; –: a rate is missing. "
    "Stays within: the same with a threshold of an arm's own, so many bits above its lowest. A difference is of "
    "the same seeds, with the 95 % t interval from {fewest} on; below zero the arm of the row has the lower loss, "
    "or is less sensitive. None of this sees spikes that heal, and none compares arms that differ in what a rate "
    "means."
)
WITHIN = 0.3, 1.0  # bits above an arm's lowest, beside the threshold that is one for all arms
OF_MAPS = (
    "The rates are those of the connections' own parameters, as a factor on the body's. No sensitivity: the same "
    "factor is another step in each way to write the maps."
)


def caption(key: str = LR) -> str:
    """Explain the table."""
    if key == MAPS_LR:
        return GRID + OF_MAPS
    known = ", ".join(f"{bits} bits on {count:,}" for (_, count, _), bits in FREQUENCIES.items())
    return GRID + CAPTION.format(frequencies=known, fewest=stats.FEWEST)


def table(of_study: Sequence[Comparison], key: str = LR) -> pd.DataFrame:
    """Lay out a row for each arm and setting of a study that sweeps a rate, as finished text."""
    rows = [row for each in sweeps(of_study, key) for row in _rows(each)]
    return cells.without_unknown(pd.DataFrame(rows, dtype=object).fillna(printed.DASH), "setting")


def _rows(sweep: Sweep) -> Iterator[dict[str, str]]:
    rates, arms = sweep.grid, sweep.whole.arms
    found = {arm: sweep.bits(arm) for arm in arms}
    minds = {arm: sweep.sensitivity(arm) for arm in arms}
    lowest = {arm: sweep.at_best(arm) for arm in arms}
    bits = {
        arm: {seed: values(lowest[arm][seed])["bpc"] if seed in lowest[arm] else nan for seed in of}
        for arm, of in found.items()
    }
    for arm, of in found.items():
        losses = list(of.values())
        own = [min(each) for each in losses]
        judged = {
            "bits − baseline": _gap(bits, arm),
            "sensitivity": printed.cell(list(minds[arm].values()), 3),
            "sensitivity − baseline": _gap(minds, arm),
            "largest stable": _stable(rates, losses, [sweep.broken] * len(of)),
            **{
                f"stays within {more:g}": _stable(rates, losses, [each + more for each in own])
                for more in WITHIN
            },
        }
        yield {
            "setting": sweep.whole.setting,
            "arm": style(arm).label,
            "seeds": str(len(of)),
            **{
                f"{swept:g}": printed.cell([each[at] for each in of.values()], 3)
                for at, swept in enumerate(rates)
            },
            "best rate": _counted(
                [rate(lowest[arm][seed], sweep.key) if seed in lowest[arm] else nan for seed in of],
                end=rates[-1],
            ),
            "bits there": printed.cell(list(bits[arm].values()), 3),
            **(judged if sweep.key == LR else {}),
        }


def _stable(rates: Sequence[float], losses: Sequence[list[float]], broken: Iterable[float]) -> str:
    found = [largest_stable(rates, each, at) for each, at in zip(losses, broken, strict=True)]
    return _counted(found, end=rates[-1])


def _counted(rates: Sequence[float], end: float = nan) -> str:
    known = Counter(sorted(rate for rate in rates if not isnan(rate)))
    words = [
        ("≥ " if rate == end else "") + f"{rate:g}" + (f" (×{count})" if len(known) > 1 else "")
        for rate, count in known.items()
    ]
    missing = len(rates) - known.total()
    return (
        ", ".join([*words, *([f"{printed.DASH} (×{missing})"] if known and missing else [])]) or printed.DASH
    )


def _gap(of: dict[str, dict[int, float]], arm: str) -> str:
    if arm == BASELINE:
        return printed.DASH
    return printed.cell([*stats.paired(of[arm], of.get(BASELINE, {})).values()], 3)
