from collections.abc import Callable
from functools import partial

import pandas as pd
import pytest

from mhc_repro.analysis.tables import rates, stability
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.runs import Run

RATES = (1e-3, 1e-2, 1e-1)
INF = float("inf")


@pytest.fixture
def swept(series) -> Callable[..., list[Run]]:
    """Make an arm's runs of one seed, one a rate: bits at the end, INF if it diverged, None if it is missing."""
    return partial(series, optim__lr=RATES)


def table(*arms: list[Run]) -> pd.DataFrame:
    frame = rates.table(comparisons([run for runs in arms for run in runs]))
    return frame.set_index("arm") if "arm" in frame else frame


def test_one_seed_by_hand(swept):
    frame = table(swept("baseline", 3.0, 4.0, INF), swept("hc", 3.5, 3.25, 4.5))
    assert frame.loc["baseline"].to_dict() == {
        "seeds": "1",
        "0.001": "3.000",
        "0.01": "4.000",
        "0.1": "inf",
        "best rate": "0.001",
        "bits there": "3.000",
        "bits − baseline": "–",
        "sensitivity": "2.000",  # (0 + 1 + 5) / 3
        "sensitivity − baseline": "–",
        "largest stable": "0.01",
        "stays within 0.3": "0.001",
        "stays within 1": "0.001",  # not above its threshold, which 4.0 is at
    }
    row = frame.loc["HC"]
    assert (row["best rate"], row["bits there"], row["bits − baseline"]) == ("0.01", "3.250", "0.250")
    assert (row["sensitivity"], row["sensitivity − baseline"]) == ("0.500", "-1.500")  # (0.25 + 0 + 1.25) / 3
    assert row["largest stable"] == "≥ 0.1"
    assert (row["stays within 0.3"], row["stays within 1"]) == ("0.01", "0.01")  # 3.5 is slow, not broken


def test_an_arm_that_lacks_a_rate_of_the_grid_has_a_dash_and_costs_its_pair(swept):
    arms = [swept(arm, 3.0, 4.0, 5.0, seed=seed) for arm in ("baseline", "hc") for seed in (0, 1)]
    frame = table(*arms, swept("baseline", 3.0, 4.0, 5.0, seed=2), swept("hc", 3.0, 4.0, None, seed=2))
    row = frame.loc["HC"]
    assert (row["seeds"], row["0.1"]) == ("3", "5.000 / 5.000 (2 of 3)")
    assert row["bits there"] == "3.000 / 3.000 (2 of 3)"
    assert row["sensitivity − baseline"] == "0.000 / 0.000 (2 of 3)"
    alone = table(swept("baseline", 3.0, 4.0, 5.0), swept("hc", 3.0, 4.0, None))
    over_the_grid = ["best rate", "bits there", "bits − baseline", "sensitivity", "largest stable"]
    over_the_grid += ["stays within 0.3", "stays within 1"]
    assert set(alone.loc["HC", over_the_grid]) == {"–"}


def test_three_seeds_have_intervals_paired_by_seed(swept):
    shifts = (0.0, 0.5, -0.5)  # what a seed moves in both arms
    runs = [
        swept(arm, 3.0 + shift + gap, 4.0, 4.5, seed=seed)
        for arm, gaps in (("baseline", (0, 0, 0)), ("hc", (-1 / 8, -2 / 8, -3 / 8)))
        for seed, (shift, gap) in enumerate(zip(shifts, gaps, strict=True))
    ]
    assert table(*runs).loc["HC", "bits − baseline"] == "-0.250 ± 0.311"


def test_rates_are_counted_over_the_seeds(swept):
    curves = [(3.0, 4.0, 4.5), (3.0, 2.0, INF), (4.0, 3.0, 5.5), (4.0, 3.0, None)]
    row = table(*(swept("hc", *bits, seed=seed) for seed, bits in enumerate(curves))).loc["HC"]
    assert row["best rate"] == "0.001 (×1), 0.01 (×2), – (×1)"
    assert row["largest stable"] == "0.01 (×2), ≥ 0.1 (×1), – (×1)"


def test_settings_have_grids_of_their_own(swept):
    runs = [*swept("hc", 3.0, 4.0, 5.0, model__blocks=4), *swept("hc", 3.0, None, 5.0, model__blocks=8)]
    frame = rates.table(comparisons(runs))
    assert frame[["setting", "0.01"]].to_numpy().tolist() == [["blocks 4", "4.000"]]  # two rates are no grid


def test_of_a_text_whose_frequencies_are_not_known_no_rate_is_called_stable(swept):
    assert table(swept("hc", 3.0, 4.0, 5.0, data__name="synthetic")).loc["HC", "largest stable"] == "–"


@pytest.mark.parametrize(("windows", "stable"), [(512, "0.01"), (2048, "≥ 0.1")])
def test_a_rate_is_judged_by_the_windows_it_was_measured_on(swept, windows: int, stable: str) -> None:
    runs = swept("hc", 3.0, 4.0, 5.1, train__test_windows=windows)
    assert table(runs).loc["HC", "largest stable"] == stable


def test_it_is_among_the_tables_of_a_study_that_sweeps_its_rate(swept, fake):
    first, *_ = stability.tables(comparisons(swept("hc", 3.0, 4.0, 5.0)))
    assert (first.title, first.caption) == (rates.TITLES[rates.LR], rates.caption())
    assert "5.118 bits on 2,048" in first.caption
    assert len(stability.tables(comparisons([fake("hc"), fake("mhc")]))) == 2


def test_the_rate_of_the_maps_has_bits_alone(series):
    factors = {"optim__connection_lr": (1.0, 10.0, 100.0)}
    runs = series("hc", 3.75, 3.5, 4.0, **factors) + series("mhc", 3.75, 3.875, 4.5, **factors)
    first, *_ = stability.tables(comparisons(runs))
    assert (first.title, first.caption) == (rates.TITLES[rates.MAPS_LR], rates.caption(rates.MAPS_LR))
    shown = {"seeds": "1", "1": "3.750", "10": "3.500", "100": "4.000"}
    best = {"best rate": "10", "bits there": "3.500"}
    assert first.frame.set_index("arm").loc["HC"].to_dict() == shown | best
    assert "sensitivity" not in first.caption.replace("No sensitivity", "")
