from collections.abc import Callable

from mhc_repro.analysis.comparison import by_study, comparisons, settings
from mhc_repro.runs import Run

Fake = Callable[..., Run]


def test_seeds_and_arms_stand_side_by_side(fake: Fake) -> None:
    (found,) = comparisons([fake("mhc", seed=1), fake("hc"), fake("mhc"), fake("baseline"), fake("zoo")])
    assert list(found.arms) == ["baseline", "hc", "mhc", "zoo"]
    assert [run.seed for run in found.arms["mhc"]] == [0, 1]
    assert (found.setting, found.slug) == ("", "made-up")


def test_a_swept_setting_is_never_averaged_over(fake: Fake) -> None:
    runs = [fake(arm, model__blocks=blocks) for blocks in (16, 4, 8) for arm in ("baseline", "hc")]
    found = comparisons(runs)
    assert [each.setting for each in found] == ["blocks 4", "blocks 8", "blocks 16"]
    assert [each.slug for each in found] == ["made-up-blocks-4", "made-up-blocks-8", "made-up-blocks-16"]
    assert all(len(of_arm) == 1 for each in found for of_arm in each.arms.values())


def test_two_protocol_versions_are_two_settings(fake: Fake) -> None:
    found = comparisons([fake("hc"), fake("hc", manifest={"protocol_version": 99})])
    assert len(found) == 2


def test_a_swept_connection_option_makes_arms_that_share_the_baseline(fake: Fake) -> None:
    runs = [fake("baseline", connection__n=1)] + [fake("mhc", connection__n=n) for n in (4, 2)]
    (found,) = comparisons(runs)
    assert list(found.arms) == ["baseline", "mhc, n 2", "mhc, n 4"]


def test_studies_stay_apart(fake: Fake) -> None:
    found = by_study([fake(study="b"), fake(study="a"), fake("hc", study="a")])
    assert list(found) == ["a", "b"]
    assert [[len(each.runs) for each in of_study] for of_study in found.values()] == [[2], [1]]


def test_settings_are_all_that_makes_the_run_id_but_the_seed(fake: Fake) -> None:
    one, other = (settings(fake("hc", seed=seed, study=study)) for seed, study in ((0, "a"), (1, "b")))
    assert one == other
    assert len(set(one.items())) == len(one)  # all can be hashed
    assert one["protocol_version"]
    assert one["optim.betas"] == (0.9, 0.95)
