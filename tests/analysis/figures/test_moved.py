"""The figure of bits against the distance of H_res from I: one mark a run, beside the first arm's of its place."""

from math import inf

import pytest

from drawn_lines import data, lines
from mhc_repro.analysis.figures import moved, of_study
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.sweeps import MAPS_LR, sweeps

RATES = (1.0, 10.0, 100.0)


def made(fake, arm: str, bits: tuple[float, ...], distances: tuple[float, ...], seed: int = 0) -> list:
    return [
        fake(
            arm, bits=each, seed=seed, study="maps", connection__n=4, optim__connection_lr=rate,
            gains=[{"step": step, "layer": layer, "distance_identity": distance * (layer / 2) * (step > 0)}
                   for step in (0, 60) for layer in (1, 2, 3)],
        )
        for rate, each, distance in zip(RATES, bits, distances, strict=True)
    ]  # fmt: skip


def test_a_mark_is_a_run_beside_the_first_arm_of_its_seed_and_rate(fake):
    runs = made(fake, "identity", (3.7, 3.8, 3.9), (0.0, 0.0, 0.0))
    runs += made(fake, "identity", (3.6, 3.6, 3.6), (0.0, 0.0, 0.0), seed=1)
    runs += made(fake, "hc", (3.75, 3.7, 3.5), (0.1, 1.0, 2.0))
    runs += made(fake, "hc", (3.7, 3.65, 4.6), (0.2, 0.9, 3.0), seed=1)
    runs += made(fake, "mhc_unconstrained", (3.7, 3.9, inf), (0.3, 4.0, 50.0))
    (sweep,) = sweeps(comparisons(runs), MAPS_LR)
    (ax,) = moved.moved(sweep.whole).axes
    shown = {x: y for line in lines(ax, "hc", "run") for x, y in data(line).items()}
    assert shown == pytest.approx({0.1: 0.05, 1.0: -0.1, 2.0: -0.4, 0.2: 0.1, 0.9: 0.05, 3.0: 1.0})
    sizes = {data(line).popitem()[0]: line.get_markersize() for line in lines(ax, "hc", "run")}
    assert sizes[0.1] == sizes[0.2] < sizes[0.9] == sizes[1.0] < sizes[2.0] == sizes[3.0]
    free = {x: y for line in lines(ax, "mhc_unconstrained", "run") for x, y in data(line).items()}
    assert free == pytest.approx({0.3: 0.0, 4.0: 0.1})  # the third diverged
    assert not lines(ax, "identity", "run")


def test_without_the_first_arm_there_is_no_such_figure(fake):
    alone = made(fake, "hc", (3.75, 3.7, 3.5), (0.1, 1.0, 2.0))
    assert moved.NAME not in {each.name for each in of_study(comparisons(alone))}
    both = alone + made(fake, "identity", (3.7, 3.8, 3.9), (0.0, 0.0, 0.0))
    assert moved.NAME in {each.name for each in of_study(comparisons(both))}
