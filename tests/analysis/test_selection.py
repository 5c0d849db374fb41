import pytest

from mhc_repro.analysis.selection import choose, fullest, missing, one_seed
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import Comparison, by_study, comparisons
from mhc_repro.runs import Run

EXPECTED = ("baseline", "hc", "mhc")


def trained(fake, study: str, *arms: str, **options: int | str) -> list[Run]:
    return [fake(arm, study=study, **options) for arm in arms]


def test_the_largest_study_with_all_three_arms_is_chosen(fake):
    runs = trained(fake, "quick", *EXPECTED) + trained(fake, "stability", "baseline", "hc")
    assert choose(by_study(runs)).study == "quick"
    runs += trained(fake, "depth", *EXPECTED, model__blocks=4)
    assert choose(by_study(runs)).study == "depth"
    runs += trained(fake, "stability", "mhc", state="running")
    assert choose(by_study(runs)).study == "depth"
    runs[-1] = fake("mhc", study="stability", state="diverged")
    assert choose(by_study(runs)).study == "stability"
    runs += trained(fake, "stress", *EXPECTED)
    assert choose(by_study(runs)).study == "stress"


def test_of_a_sweep_the_last_complete_setting_is_chosen(fake):
    runs = [run for blocks in (4, 8) for run in trained(fake, "depth", *EXPECTED, model__blocks=blocks)]
    runs += trained(fake, "depth", "baseline", "mhc", model__blocks=16)
    assert choose(by_study(runs)).setting == "blocks 8"


def test_arms_of_different_seeds_do_not_make_a_set(fake):
    runs = trained(fake, "quick", "baseline", "hc") + trained(fake, "quick", "mhc", seed=1)
    with pytest.raises(UserError, match="make quick"):
        choose(by_study(runs))
    runs += trained(fake, "quick", "baseline", "hc", seed=1)
    assert choose(by_study(runs)).seeds == [0, 1]


def test_one_seed_is_the_first_that_most_arms_have(fake):
    (found,) = comparisons(
        trained(fake, "quick", "baseline")
        + trained(fake, "quick", *EXPECTED, seed=1)
        + trained(fake, "quick", *EXPECTED, seed=2)
    )
    one = one_seed(found)
    assert (one.seeds, list(one.arms)) == ([1], list(EXPECTED))
    assert one_seed(found, "baseline").seeds == [0]
    assert one_seed(found, "identity").arms == {}
    assert found.seeds == [0, 1, 2]


def test_what_has_not_ended_is_missing(fake):
    (found,) = comparisons(
        trained(fake, "quick", "baseline") + trained(fake, "quick", "hc", state="interrupted")
    )
    assert missing(found, EXPECTED) == ["hc", "mhc"]
    assert missing(None, EXPECTED) == list(EXPECTED)


def test_fullest_prefers_more_arms_and_then_the_last(fake):
    runs = [run for blocks in (2, 4) for run in trained(fake, "published", *EXPECTED, model__blocks=blocks)]
    runs += trained(fake, "published", "baseline", model__blocks=8)
    found = fullest(comparisons(runs), EXPECTED)
    assert isinstance(found, Comparison)
    assert (found.setting, list(found.arms)) == ("blocks 4", list(EXPECTED))
    assert fullest([], EXPECTED) is None
    assert fullest(comparisons([fake("hc", state="running"), fake("zoo")]), EXPECTED) is None
