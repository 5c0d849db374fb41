"""The front page's table of settings: a row leads to every study that its runs come from."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from mhc_repro.analysis import front
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import Studies, by_study, comparisons
from mhc_repro.evidence.sweeps import LR, Sweep
from mhc_repro.runs import Run


@pytest.fixture
def studies(fake: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> Studies:
    """Two studies of one setting, the second with a seed that the first lacks, and a third of another."""
    monkeypatch.setattr(front, "chosen", lambda: replace(chosen(), settings=["deep", "else"]))
    held = (("deep", 0, {}), ("wide", 0, {}), ("wide", 1, {}), ("else", 0, {"optim__lr": 0.25}))
    return by_study(
        [
            fake(arm, bits=3.0, study=study, seed=seed, **options)
            for study, seed, options in held
            for arm in ("baseline", "hc", "mhc")
        ]
    )


def test_a_row_links_each_study_that_is_in_it(studies):
    *_, joined, alone = front.table(front.settings(studies), studies, "to/").splitlines()
    assert joined.startswith("| [16 × 256, 3e-4](to/deep/README.md) + [wide](to/wide/README.md), 2 seeds |")
    assert alone.startswith("| [16 × 256, 2.5e-1](to/else/README.md), one seed |")


def test_a_study_that_adds_no_run_to_a_row_is_not_linked(studies):
    (wide,) = studies["wide"]
    wide.arms["mhc"].pop()  # what is left of its second seed makes no pair
    *_, joined, _ = front.table(front.settings(studies), studies, "to/").splitlines()
    assert joined.startswith("| [16 × 256, 3e-4](to/deep/README.md), one seed |")


def test_a_chosen_setting_is_shown_though_a_study_named_before_it_holds_its_runs(studies, fake):
    again = [
        fake(arm, bits=3.0, study="again", seed=seed) for arm in ("baseline", "hc", "mhc") for seed in (0, 1)
    ]
    of_all = dict(sorted({**studies, **by_study(again)}.items()))
    joined, alone = front.settings(of_all)
    assert (joined.name, alone.name) == ("again", "else")


@pytest.mark.parametrize(("seeds", "shown"), [((0, 1), True), ((0,), False), ((), False)])
def test_a_late_share_is_shown_where_every_run_of_every_setting_has_it(fake, monkeypatch, seeds, shown):
    def run(arm: str, seed: int) -> Run:
        known = {"kernel/late_share": 0.125} if seed in seeds else {}
        return fake(arm, [{"step": 0}, {"step": 60, "bpc/test": 3.0, **known}], seed=seed)

    monkeypatch.setattr(front, "chosen", lambda: replace(chosen(), settings=["made-up"]))
    runs = [run(arm, seed) for arm in ("baseline", "hc", "mhc") for seed in (0, 1)]
    studies = by_study(runs)
    head, *_ = front.table(front.settings(studies), studies, "").splitlines()
    assert ("HC's late share" in head) is shown


def test_a_tuned_difference_is_that_of_the_best_rates_of_the_same_nets(studies, fake):
    rates = (1e-3, 0.5)  # beside those of the two settings, at which every arm ends with 3 bits

    def tuned(last: float, **more: object) -> list[str]:
        ended = {"baseline": (2.9, 3.3), "hc": (2.85, last)}
        others = [
            fake(arm, bits=bits, optim__lr=lr, study=f"at {lr}", **more)
            for arm, of_rates in ended.items()
            for bits, lr in zip(of_rates, rates, strict=True)
        ]
        head, _, row, _ = front.table(front.settings(studies), studies | by_study(others), "").splitlines()
        names, cells = ([cell.strip() for cell in line.split("|")[1:-1]] for line in (head, row))
        return [cells[names.index(f"{arm} − baseline, tuned")] for arm in ("HC", "mHC")]

    measured = {"probe__every": 7}  # more often, which trains no other net
    assert tuned(2.9, **measured) == ["-0.050 (1 of 2)", "–"]
    assert tuned(2.8, **measured) == ["-0.100 (1 of 2) ‡", "–"]  # a better rate may lie beyond
    assert tuned(2.9, model__dim=64) == ["–", "–"]
    assert tuned(2.9, connection__n=8) == ["–", "–"]


def test_a_best_rate_at_either_end_of_the_grid_is_marked(fake):
    for bits, text in (
        ((2.9, 3.0, 3.1), "0.000 ‡"),
        ((3.0, 2.9, 3.1), "0.000"),
        ((3.1, 3.0, 2.9), "0.000 ‡"),
    ):
        runs = [
            fake(arm, bits=each, optim__lr=lr)
            for arm in ("baseline", "hc")
            for lr, each in zip((1e-4, 1e-3, 1e-2), bits, strict=True)
        ]
        (whole,) = comparisons(runs, swept=LR)
        assert front._at_best(Sweep(LR, whole), 1, "hc", "baseline") == text
