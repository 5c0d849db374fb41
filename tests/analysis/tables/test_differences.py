from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mhc_repro.analysis.tables import differences, stability
from mhc_repro.evidence.comparison import by_study, comparisons
from mhc_repro.runs import Run

SHIFTS = (0.0, 10.0, -20.0)  # what a seed moves in all arms: a mean over unpaired runs would be lost in it
GAPS = -1 / 8, -2 / 8, -3 / 8
WRITTEN = "-0.250 ± 0.311 (3 of 3)"  # 4.3027, Student's t at 2 degrees of freedom and 95 %, times 1/8 over √3


@pytest.fixture
def seeded(series) -> Callable[..., list[Run]]:
    """Make finished runs of an arm whose losses are a seed's own shift and what is given."""

    def make(name: str, *gaps: float, first: int = 0, **options: object) -> list[Run]:
        bits = (40 + SHIFTS[at] + gap for at, gap in enumerate(gaps))
        return series(name, *bits, seed=range(first, 9), **options)

    return make


def table(*arms: list[Run]) -> pd.DataFrame:
    frame = differences.table(comparisons([run for runs in arms for run in runs]))
    return frame.set_index("arm") if "arm" in frame else frame


def test_what_a_seed_moves_in_both_arms_cancels(seeded):
    lite = [2 * gap for gap in GAPS]
    frame = table(seeded("baseline", 0, 0, 0), seeded("hc", *GAPS), seeded("mhc_lite", *lite))
    assert list(frame.index) == ["HC", "mHC-lite"]
    assert frame["seeds"].tolist() == ["3", "3"]
    assert frame["− baseline"].tolist() == [WRITTEN, "-0.500 ± 0.621 (3 of 3)"]
    assert frame["− HC"].tolist() == ["–", WRITTEN]
    assert "− mHC" not in frame  # was not run


@pytest.mark.parametrize(
    ("gaps", "text"),
    [
        ((-0.004, -0.003, -0.005), "-0.004 ± 0.002 § (3 of 3)"),
        # 0.0005 ± 0.0012, though it reads as if zero were out
        ((0.0, 0.0005, 0.0010), "0.001 ± 0.001 (0 of 3)"),
        ((0.0012, 0.0014, 0.0016), "0.001 ± 0.000 § (0 of 3)"),
        ((0.01, 0.02), "0.010 / 0.020"),
        ((-0.01, float("inf"), 0.02), "-0.010 / inf / 0.020"),
        ((0.1, 0.2, 0.15, float("nan")), "0.150 ± 0.124 § (0 of 3)"),  # both of the last pair diverged
        ((), "–"),
    ],
)
def test_the_mark_is_of_numbers_before_rounding(gaps, text):
    assert differences.difference(gaps) == text


def test_only_seeds_that_both_arms_ended_are_paired(seeded, fake):
    late = fake("hc", bits=1.0, seed=3)
    lost = fake("baseline", [{"step": 40, "bpc/val": 1.0}], seed=3, state="interrupted")
    frame = table([*seeded("baseline", 0, 0, 0), lost], [*seeded("hc", *GAPS), late])
    assert frame.loc["HC", ["seeds", "− baseline"]].tolist() == ["4", WRITTEN]


@pytest.mark.parametrize(("fallen", "said"), [("hc", "inf"), ("baseline", "-inf")])
def test_the_seeds_that_an_arm_survived_are_not_its_mean(seeded, fake, fallen, said):
    other = "hc" if fallen == "baseline" else "baseline"
    died = fake(fallen, [{"step": 40, "bpc/val": 1.0}], seed=3, state="diverged")
    lived = fake(other, bits=1.0, seed=3)
    frame = table([*seeded("baseline", 0, 0, 0), *seeded("hc", *GAPS), died, lived])
    assert frame.loc["HC", "− baseline"] == f"-0.125 / -0.250 / -0.375 / {said}"


def test_gradients_are_paired_and_gains_are_ranges(fake):
    def run(arm: str, seed: int, norm: float, gain: float) -> Run:
        gains = {"gain/composite_forward": 1.0, "gain/composite_backward": gain}
        rows = [{"step": 129, "grad/norm": norm, **gains}, {"step": 130, "bpc/test": 3.0}]
        return fake(arm, rows, seed=seed)

    runs = [run("baseline", seed, norm, 1.0) for seed, norm in enumerate((1.0, 10.0, 100.0))]
    runs += [run("hc", seed, norm, gain) for seed, (norm, gain) in enumerate([(2, 20), (15, 400), (100, 70)])]
    row = table(runs).loc["HC"]
    assert row["gradient norm (× baseline)"] == "1.50 (1.00 to 2.00)"
    assert row["max composite gain"] == "70.00 (20.00 to 400.0)"


def test_spikes_are_compared_in_the_same_seeds(fake):
    def run(arm: str, seed: int, spikes: int) -> Run:
        norms = 1 + 0.01 * np.sin(np.arange(300))
        norms[150 : 150 + 40 * spikes : 40] = 9.0
        rows = [{"step": step, "grad/norm_body": norm} for step, norm in enumerate(norms, start=1)]
        return fake(arm, [*rows, {"step": 300, "bpc/test": 3.0}], seed=seed)

    runs = [run("baseline", seed, count) for seed, count in enumerate((0, 1, 2, 3))]
    runs += [run("hc", seed, count) for seed, count in ((0, 1), (1, 2), (2, 3))]  # the worst seed is not run
    runs += [run("mhc", seed, count) for seed, count in enumerate((0, 1, 2, 2))]
    frame = table(runs)
    assert frame["gradient spikes (− baseline)"].to_dict() == {"HC": "1.0 ± 0.0", "mHC": "-0.2 ± 0.8"}


def test_how_much_the_pairing_cancels_is_said(seeded):
    runs = [seeded("baseline", 0, 0, 0), seeded("hc", *GAPS), seeded("mhc", 5.0, -30.0, 25.0)]
    assert table(*runs)["r"].to_dict() == {"HC": "1.00", "mHC": "-0.76"}


def test_two_seeds_make_no_table(seeded):
    two = [*seeded("baseline", 0, 0), *seeded("hc", 1, 2)]
    apart = [*seeded("baseline", 0, 0, 0), *seeded("hc", 0, 0, 0, first=3)]
    for runs in (two, apart):
        assert table(runs).empty
        assert len(stability.tables(comparisons(runs))) == 2


def test_settings_have_rows_of_their_own_and_studies_their_own_arms(seeded):
    arms = [("baseline", 4, 0), ("baseline", 8, 0)]
    arms += [("published_mhc", 4, 0.5), ("published_mhc", 8, 1), ("published_hc", 8, 1)]
    runs = [seeded(arm, *[gap] * 3, study="published", model__blocks=blocks) for arm, blocks, gap in arms]
    frame = differences.table(comparisons([run for of_arm in runs for run in of_arm]))
    ours = frame[frame["arm"] == "mHC, enwik8 repr."].set_index("setting")
    written = {"blocks 4": "0.500 ± 0.000 § (0 of 3)", "blocks 8": "1.000 ± 0.000 § (0 of 3)"}
    assert ours["− baseline"].to_dict() == written
    assert ours["− HC, enwik8 repr."].to_dict() == {"blocks 4": "–", "blocks 8": "0.000 ± 0.000 (0 of 3)"}


def test_it_is_among_the_tables_of_a_study_with_seeds_enough(seeded):
    (study,) = by_study([*seeded("baseline", 0, 0, 0), *seeded("hc", *GAPS)]).values()
    _, paired, _ = stability.tables(study)
    assert (paired.title, paired.frame.loc[0, "− baseline"]) == ("Paired by seed", WRITTEN)
    assert differences.CAPTION in list(stability.pieces(study))
