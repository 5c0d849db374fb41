"""An arm over the rates of a sweep: which of its runs is the best is for the validation to say, not the test."""

import pytest

from mhc_repro.evidence.comparison import by_study, comparisons
from mhc_repro.evidence.sweeps import LR, Sweep, completed


@pytest.fixture
def sweep(fake):
    """Make the sweep of runs of an arm: (seed, rate, validation bits, test bits), and options of the last."""

    def make(*found, **last):
        options = [{} for _ in found[:-1]] + [last]
        runs = [
            fake("hc", bits=test, val=val, seed=seed, optim__lr=rate, **of_run)
            for (seed, rate, val, test), of_run in zip(found, options, strict=True)
        ]
        (comparison,) = comparisons(runs, swept=LR)
        return Sweep(LR, comparison)

    return make


def rates(runs):
    return {seed: run.config["optim"]["lr"] for seed, run in runs.items()}


def test_the_validation_chooses_and_the_test_is_what_is_shown(sweep):
    found = sweep((0, 1e-3, 3.0, 9.0), (0, 3e-3, 3.5, 2.0), (0, 1e-2, 4.0, 1.0))
    assert rates(found.at_best("hc")) == rates(found.at_one_rate("hc")) == {0: 1e-3}
    assert found.bits("hc") == {0: [9.0, 2.0, 1.0]}


def test_what_is_under_way_is_no_rate_that_an_arm_has(sweep):
    ended = [(seed, rate, bits, bits) for seed in (0, 1) for rate, bits in ((1e-3, 3.0), (3e-3, 4.0))]
    found = sweep(*ended, (2, 3e-3, 2.0, 2.0), state="running")
    assert rates(found.at_one_rate("hc")) == {0: 1e-3, 1: 1e-3}


def test_rates_with_different_seeds_are_not_compared(sweep):
    """One seed is harder than another: a mean without it is lower for no merit of the rate."""
    easy, hard = (0, 1e-3, 2.0, 2.0), (1, 1e-3, 2.4, 2.4)
    found = sweep(easy, hard, (1, 3e-3, 2.3, 2.3), (2, 3e-3, 2.6, 2.6))
    assert rates(found.at_one_rate("hc")) == {1: 3e-3, 2: 3e-3}
    found = sweep(easy, hard, (0, 3e-3, 1.9, 1.9), (1, 3e-3, 2.3, 2.3), (1, 1e-2, 2.35, 2.35))
    assert rates(found.at_one_rate("hc")) == {0: 3e-3, 1: 3e-3}
    found = sweep(easy, hard, (0, 3e-3, 2.1, 2.1))  # the better one may have more seeds
    assert rates(found.at_one_rate("hc")) == {0: 1e-3, 1: 1e-3}
    assert sweep(easy, (1, 3e-3, 2.3, 2.3)).at_one_rate("hc") == {}


def test_sensitivity_counts_from_the_loss_before_the_first_step(sweep):
    found = sweep((0, 1e-3, 3.0, 3.0), (0, 3e-3, 2.0, 2.0), (0, 1e-2, float("inf"), float("inf")))
    # a net that diverged is back at 8, where it began
    assert found.sensitivity("hc") == {0: (1.0 + 0.0 + 6.0) / 3}


def test_of_tokens_too_the_sensitivity_counts_from_the_loss_before_the_first_step(fake):
    ends = {1e-3: 3.0, 3e-3: 2.0, 1e-2: 9.0}
    runs = [
        fake(
            "hc", [{"step": 0, "bpb/val": 8.0}, {"step": 60, "bpb/val": end, "bpb/test": end}], optim__lr=rate
        )
        for rate, end in ends.items()
    ]
    assert Sweep(LR, comparisons(runs, swept=LR)[0]).sensitivity("hc") == {0: (1.0 + 0.0 + 6.0) / 3}


def test_what_another_study_trained_of_the_same_nets_fills_in(series):
    asked = [
        *series("baseline", 3.0, 3.0, study="family", optim__lr=1e-3, seed=(0, 1)),
        *series("hc", 2.5, study="family", optim__lr=1e-3, seed=(0,)),
    ]
    others = [
        *series("hc", 9.0, 2.75, 9.0, study="edge", optim__lr=1e-3, seed=(0, 1, 2)),  # 2 is not asked for
        *series("hc", 1.0, study="edge", optim__lr=3e-3, seed=(1,)),  # nor is this rate
        *series("mhc", 1.0, study="edge", optim__lr=1e-3, seed=(1,)),  # nor this arm
        *series("hc", 1.0, study="clip", optim__lr=1e-3, optim__clip=5.0, seed=(1,)),  # other nets
        *series("hc", 1.0, study="seeds", optim__lr=1e-3, seed=(1,), probe__token_map_times=9),
    ]
    (found,) = completed(comparisons(asked), by_study([*asked, *others]), LR)
    assert {arm: [(run.study, run.seed) for run in runs] for arm, runs in found.whole.arms.items()} == {
        "baseline": [("family", 0), ("family", 1)],
        "hc": [("family", 0), ("edge", 1)],
    }
