from collections.abc import Callable

import pandas as pd
import pytest

from mhc_repro.analysis.comparison import by_study, comparisons
from mhc_repro.analysis.tables import differences, stability
from mhc_repro.runs import Run

Fake = Callable[..., Run]
SHIFTS = (0.0, 10.0, -20.0)  # what a seed moves in all arms: a mean over unpaired runs would be lost in it
MEAN_AND_HALF = (
    "-0.250 ± 0.311"  # of -1/8, -2/8, -3/8: 4.3027, Student's t at 2 degrees and 95 %, times 1/8 over √3
)


@pytest.fixture
def seeded(fake: Fake) -> Callable[..., list[Run]]:
    """Make finished runs of an arm whose losses are a seed's own shift and what is given."""

    def make(name: str, *gaps: float, first: int = 0, **options: object) -> list[Run]:
        return [
            fake(name, [{"step": 60, "bpc/test": 40 + SHIFTS[at] + gap}], seed=first + at, **options)
            for at, gap in enumerate(gaps)
        ]

    return make


Seeded = Callable[..., list[Run]]


def table(*arms: list[Run]) -> pd.DataFrame:
    frame = differences.table(comparisons([run for runs in arms for run in runs]))
    return frame.set_index("arm") if "arm" in frame else frame


def test_what_a_seed_moves_in_both_arms_cancels(seeded: Seeded) -> None:
    frame = table(
        seeded("baseline", 0, 0, 0),
        seeded("hc", -1 / 8, -2 / 8, -3 / 8),
        seeded("mhc_lite", -2 / 8, -4 / 8, -6 / 8),
    )
    assert list(frame.index) == ["HC", "mHC-lite"]
    assert frame.loc["HC"].to_dict() == {
        "seeds": "3",
        "− baseline": MEAN_AND_HALF,
        "− HC": "–",
        "− mHC": "–",
    }
    assert frame.loc["mHC-lite", "− baseline"] == "-0.500 ± 0.621"
    assert frame.loc["mHC-lite", "− HC"] == MEAN_AND_HALF


def test_only_seeds_that_both_arms_finished_are_paired(seeded: Seeded, fake: Fake) -> None:
    late = fake("hc", [{"step": 60, "bpc/test": 1.0}], seed=3)
    lost = fake("baseline", [{"step": 40, "bpc/val": 1.0}], seed=3, state="diverged")
    frame = table([*seeded("baseline", 0, 0, 0), lost], [*seeded("hc", -1 / 8, -2 / 8, -3 / 8), late])
    assert frame.loc["HC", ["seeds", "− baseline"]].tolist() == ["4", f"{MEAN_AND_HALF} (3 of 4)"]


def test_two_seeds_make_no_table(seeded: Seeded) -> None:
    two = [*seeded("baseline", 0, 0), *seeded("hc", 1, 2)]
    apart = [*seeded("baseline", 0, 0, 0), *seeded("hc", 0, 0, 0, first=3)]
    for runs in (two, apart):
        assert table(runs).empty
        assert len(stability.tables(comparisons(runs))) == 2
        assert differences.part(comparisons(runs)) == "*Study `made-up`: fewer than 3 seeds have finished.*"


def test_settings_have_rows_of_their_own(seeded: Seeded) -> None:
    runs = [
        run
        for blocks, gap in ((4, 0.5), (8, 1.0))
        for run in [
            *seeded("baseline", 0, 0, 0, model__blocks=blocks),
            *seeded("mhc", gap, gap, gap, model__blocks=blocks),
        ]
    ]
    frame = differences.table(comparisons(runs))
    assert frame[["setting", "arm", "− baseline"]].to_numpy().tolist() == [
        ["blocks 4", "mHC", "0.500 ± 0.000"],
        ["blocks 8", "mHC", "1.000 ± 0.000"],
    ]


def test_it_is_among_the_tables_of_a_study_with_seeds_enough(seeded: Seeded) -> None:
    (study,) = by_study([*seeded("baseline", 0, 0, 0), *seeded("hc", -1 / 8, -2 / 8, -3 / 8)]).values()
    *_, last = stability.tables(study)
    assert (last.title, last.frame.loc[0, "− baseline"]) == ("Paired by seed", MEAN_AND_HALF)
    for text in (stability.part(study), differences.part(study)):
        assert f"| HC    |       3 | {MEAN_AND_HALF} |" in text
        assert differences.CAPTION in text
