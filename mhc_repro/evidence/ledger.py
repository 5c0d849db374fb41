"""The ledger: every number of a run that is shown anywhere, once.

Its name (in `results/index.csv`, claims, markers of a page), its label over a column, its unit, how it is read from
what the run recorded, by how much one config run twice may differ in it, and how it is printed. A run that has not
ended has none: they would still change. What was not recorded is NaN.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf, isnan, log, log1p, nan

from mhc_repro.evidence import stats
from mhc_repro.evidence.readings import (
    BITS_OF,
    COMPOSITE,
    Read,
    Recorded,
    at_end,
    clip_by_maps,
    clipped,
    composite_end,
    finished,
    from_identity,
    held_out,
    largest,
    lost,
    median,
    over,
    spike_count,
    undisturbed,
)
from mhc_repro.runs import ENDED, Run, once

NATS, BITS, ONE = "nats per symbol", "bits per symbol", "1"
DEEP = 32  # sub-layers


@dataclass(frozen=True)
class Quantity:
    """A number of a run, and how two of them are set against each other."""

    name: str
    label: str
    unit: str
    read: Read
    noise: float = nan  # of the difference, or of the ratio about 1
    deep: float = nan  # the same of nets of DEEP sub-layers and more, where that is more
    ratio: bool = False  # compared as ours / other
    decimals: int | None = None  # None: about four digits
    mean: bool = False  # of several seeds: mean ± t interval, as losses; else median (smallest to largest)

    def compare(self, ours: float, other: float) -> float:
        """Give ours / other or ours - other; NaN of two that diverged, and of a ratio with a zero in it."""
        return stats.ratio(ours, other) if self.ratio else ours - other

    def gap(self, ours: float, other: float) -> float:
        """Give the difference, or the logarithm of the ratio: 0 where the two are the same."""
        compared = self.compare(ours, other)
        return compared if not self.ratio or isnan(compared) else log(compared) if compared else -inf

    def noise_of(self, layers: int) -> float:
        """Give the noise of nets of so many sub-layers, of the difference or of the ratio about 1."""
        return self.deep if layers >= DEEP and not isnan(self.deep) else self.noise

    def margin(self, layers: int) -> float:
        """Give that noise on the scale of a gap."""
        noise = self.noise_of(layers)
        return log1p(noise) if self.ratio else noise


class Values(Mapping[str, float]):
    """Every quantity of a run by its name, each read when it is asked for; all NaN until the run has ended."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: dict[str, float] = {}

    @cached_property
    def _recorded(self) -> Recorded:
        return Recorded(self._run)

    def __getitem__(self, name: str) -> float:
        if name not in self._known:
            read = LEDGER[name].read
            self._known[name] = float(read(self._recorded)) if self._run.state in ENDED else nan
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(LEDGER)

    def __len__(self) -> int:
        return len(LEDGER)


@once
def values(run: Run) -> Values:
    """Give the quantities of a run."""
    return Values(run)


def of(runs: Iterable[Run], name: str) -> list[float]:
    """Read a quantity of several runs."""
    return [values(run)[name] for run in runs]


def by_seed(runs: Mapping[int, Run], name: str) -> dict[int, float]:
    """Read a quantity of an arm's runs, one a seed."""
    return {seed: values(run)[name] for seed, run in runs.items()}


# Noise: somewhat more than any two recorded runs of one config and seed differ by, and of bits than any gap
# between two arms moves where both are run again. Most agree to the last bit; at 3e-3, seed 0, those of
# `arms`, `quick` and `edge`, of other threads and days, differ by 0.006 bits, 26 % of a gain (HC), 84 % of
# a gain at the end and 27 % of an activation gain (mhc_unconstrained), and in no spike of the loss.
# Rounding grows with depth: those of `depth` and `edge_small` over 32 sub-layers differ by 0.016 bits,
# 0.030 bits of a gap (mHC's to the baseline) and 19 % of a gradient norm, all of seed 1.
QUANTITIES = (
    Quantity("bpc", "held-out bpc", BITS, held_out, 0.01, 0.03, decimals=3, mean=True),
    Quantity("bpc_test", "test bpc", BITS, at_end(*BITS_OF["test"]), decimals=3, mean=True),
    Quantity("bpc_val", "validation bpc, last", BITS, at_end(*BITS_OF["val"]), decimals=3, mean=True),
    Quantity("loss_last", "train loss, last step", NATS, finished("steps"), decimals=3, mean=True),
    # as the enwik8 reproduction prints them: every 20th step, train batches
    Quantity("loss_final", "final loss (nats)", NATS, finished("printed"), decimals=3, mean=True),
    Quantity(
        "loss_min", "min loss (nats)", NATS, over("printed", "loss/train", "min"), decimals=3, mean=True
    ),
    Quantity("grad_mean", "avg grad norm", NATS, over("printed", "grad/norm", "mean")),
    Quantity("grad_max", "max grad norm", NATS, over("printed", "grad/norm", "max")),
    Quantity("activation_mean", "avg activation gain", ONE, over("whole", "gain/activation", "mean")),
    Quantity("activation_max", "max activation gain", ONE, largest("gain/activation"), 0.3, ratio=True),
    # what answers the question; gradients over the steps that the spike rule judges
    Quantity("grad_median", "median grad norm", NATS, median("grad/norm"), 0.02, 0.2, ratio=True),
    Quantity(
        "grad_body_median", "median body grad norm", NATS, median("grad/norm_body"), 0.02, 0.2, ratio=True
    ),
    Quantity("grad_body_max", "max body grad norm", NATS, over("judged", "grad/norm_body", "max")),
    Quantity("clipped", "steps clipped (%)", "per cent", clipped, decimals=0),
    Quantity("clip_by_maps", "clip by maps (%)", "per cent", clip_by_maps, decimals=0),
    Quantity("composite_forward", "max composite gain, fwd", ONE, largest(COMPOSITE[0]), 0.3, ratio=True),
    Quantity("composite_backward", "max composite gain, bwd", ONE, largest(COMPOSITE[1]), 0.3, ratio=True),
    Quantity("composite", "max composite gain", ONE, largest(*COMPOSITE), 0.3, ratio=True),
    Quantity("composite_end", "composite gain at the end", ONE, composite_end, 0.9, ratio=True),
    Quantity("late_share", "late share", ONE, at_end("kernel/late_share"), decimals=3),
    Quantity("early_share", "early share", ONE, at_end("kernel/early_share"), decimals=3),
    Quantity("cancellation", "C", ONE, at_end("kernel/cancellation")),
    Quantity("effective", "outputs the readout hears", ONE, at_end("kernel/effective")),
    Quantity("logit_max", "max attention logit", ONE, largest("attention/logit")),
    Quantity("lost_last_quarter", "lost without the last quarter", NATS, lost("last_quarter"), decimals=3),
    Quantity("lost_last_half", "lost without the last half", NATS, lost("last_half"), decimals=3),
    Quantity("jacobian_random", "Jacobian, random direction", ONE, at_end("jacobian/random")),
    Quantity("jacobian_worst", "Jacobian, worst direction", ONE, at_end("jacobian/worst")),
    Quantity("from_identity_start", "‖H_res − I‖ at the start", ONE, from_identity(0), decimals=3),
    Quantity("from_identity_end", "‖H_res − I‖ at the end", ONE, from_identity(-1), decimals=3),
    Quantity("loss_spikes", "loss spikes", "steps", spike_count("loss/train"), 0.5),
    Quantity("grad_spikes", "body grad norm spikes", "steps", spike_count("grad/norm_body")),
    Quantity("step_seconds", "seconds a step, 5th percentile", "seconds", undisturbed),
)
LEDGER = {quantity.name: quantity for quantity in QUANTITIES}
