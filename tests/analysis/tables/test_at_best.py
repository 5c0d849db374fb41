"""Every arm at its best: the better rate by the data, differences at each arm's own, dashes for the rest."""

from collections.abc import Callable

import pytest

from mhc_repro.analysis.tables import at_best
from mhc_repro.evidence.comparison import by_study, comparisons
from mhc_repro.evidence.sweeps import LR, completed
from mhc_repro.runs import Run

INF = float("inf")


@pytest.fixture
def made(series) -> Callable[..., list[Run]]:
    """Make an arm's runs at one rate, one a seed: bits at the end, INF if it diverged."""
    return lambda arm, lr, *bits: series(arm, *bits, seed=range(9), study="family", optim__lr=lr)


def table(*arms: list[Run], costs: dict | None = None):
    runs = [run for of_arm in arms for run in of_arm]
    return at_best.table(completed(comparisons(runs), by_study(runs), LR), costs or {}).set_index("arm")


def test_each_arm_stands_at_its_own_better_rate(made):
    frame = table(
        made("baseline", 1e-3, 3.0, 3.1, 3.2),
        made("baseline", 3e-3, 3.5, 2.9, 3.5),  # the better in one seed, not in the mean
        made("hc", 1e-3, 3.0, 3.1, 3.2),
        made("hc", 3e-3, 2.75, 2.85, 2.95),
        costs={"hc": {"step_ratio": 1.25}},
    )
    columns = ["rate", "seeds", "− baseline", "step"]
    assert frame.loc["baseline", columns].tolist() == ["0.001", "3", "–", "1.00"]
    row = frame.loc["HC"]
    assert (row["rate"], row["step"]) == ("0.003", "1.25")
    assert row["− baseline"] == "-0.250 ± 0.000 § (3 of 3)"


def test_a_rate_at_which_a_seed_diverged_is_not_chosen_one_with_fewer_seeds_may_be(made):
    base = made("baseline", 1e-3, 3.0, 3.0, 3.0)
    frame = table(base, made("hc", 3e-3, 2.0, INF, 2.0), made("hc", 1e-3, 3.1, 3.1, 3.1))
    assert frame.loc["HC", "rate"] == "0.001"
    for bits, better in ((2.0, ["0.003", "1"]), (3.2, ["0.001", "3"])):
        frame = table(base, made("mhc", 3e-3, bits), made("mhc", 1e-3, 3.1, 3.1, 3.1))
        assert frame.loc["mHC", ["rate", "seeds"]].tolist() == better


def test_no_rate_is_chosen_of_rates_without_a_common_seed(made, series):
    other = series("hc", 3.1, seed=(1,), study="family", optim__lr=1e-3)
    row = table(made("baseline", 1e-3, 3.0, 3.0), made("hc", 3e-3, 2.0), other).loc["HC"]
    assert row[["rate", "seeds", "bits", "− baseline", "gain", "C"]].tolist() == [
        "–",
        "0",
        "–",
        "–",
        "–",
        "–",
    ]


def test_a_rate_of_which_nothing_is_known_is_not_the_better(made):
    frame = table(made("baseline", 1e-3, float("nan")), made("baseline", 3e-3, 3.0))
    assert frame.loc["baseline", "rate"] == "0.003"


def test_a_net_is_measured_by_the_baseline_of_its_own_size(series):
    ended = {("baseline", 4): 4.0, ("baseline", 8): 3.0, ("hc", 4): 3.875}
    runs = [
        run
        for (arm, blocks), bits in ended.items()
        for run in series(arm, bits, bits, study="family", optim__lr=(1e-3, 3e-3), model__blocks=blocks)
    ]
    frame = at_best.table(completed(comparisons(runs), by_study(runs), LR), {})
    assert frame["setting"].tolist() == ["blocks 4", "blocks 4", "blocks 8"]
    assert frame["− baseline"].tolist() == ["–", "-0.125", "–"]


def test_the_page_names_every_study_that_it_shows_runs_of(series, tmp_path):
    asked = series("hc", 2.5, 2.5, study="family", seed=(0, 1))
    runs = [*asked, *series("mhc", 2.5, study="family"), *series("mhc", 2.5, study="edge", seed=(1,))]
    page = at_best.part(
        by_study(runs)["family"], by_study([*runs, *series("hc", 2.5, study="seeds")]), tmp_path
    )
    assert ["Study `edge`" in page, "Study `family`" in page, "Study `seeds`" in page] == [True, True, False]


def test_what_has_not_been_run_is_a_dash(made, tmp_path):
    frame = table(made("hc", 1e-3, 3.0))
    assert frame.loc["HC", ["rate", "bits", "− baseline", "step"]].tolist() == [
        "0.001 alone",
        "3.000",
        "–",
        "–",
    ]
    page = at_best.part(comparisons(made("hc", 1e-3, 3.0)), by_study(made("hc", 1e-3, 3.0)), tmp_path)
    assert "| HC " in page
    assert "Study `family`" in page
