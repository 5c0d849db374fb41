from collections.abc import Callable

import pytest

from mhc_repro.analysis.comparison import comparisons
from mhc_repro.runs import Run

Fake = Callable[..., Run]


def test_seeds_and_arms_stand_side_by_side(fake: Fake) -> None:
    (found,) = comparisons([fake("mhc", seed=1), fake("hc"), fake("mhc"), fake("baseline"), fake("zoo")])
    assert list(found.arms) == ["baseline", "hc", "mhc", "zoo"]
    assert [run.seed for run in found.arms["mhc"]] == [0, 1]
    assert (found.setting, found.slug) == ("", "made-up")
    assert found.n == "2 seeds (0, 1)"


def test_a_swept_setting_is_never_averaged_over(fake: Fake) -> None:
    runs = [fake(arm, model__blocks=blocks) for blocks in (16, 4, 8) for arm in ("baseline", "hc")]
    found = comparisons(runs)
    assert [each.setting for each in found] == ["blocks 4", "blocks 8", "blocks 16"]
    assert [each.slug for each in found] == ["made-up-blocks-4", "made-up-blocks-8", "made-up-blocks-16"]
    assert all(len(of_arm) == 1 for each in found for of_arm in each.arms.values())
    assert found[0].protocol.startswith("4 blocks × 256, ")


def test_two_protocol_versions_are_two_settings(fake: Fake) -> None:
    found = comparisons([fake("hc"), fake("hc", manifest={"protocol_version": 99})])
    assert len(found) == 2


def test_a_swept_connection_option_makes_arms_that_share_the_baseline(fake: Fake) -> None:
    runs = [fake("baseline", connection__n=1)] + [fake("mhc", connection__n=n) for n in (4, 2)]
    (found,) = comparisons(runs)
    assert list(found.arms) == ["baseline", "mhc, n 2", "mhc, n 4"]


def test_a_field_that_older_runs_lack_is_no_difference(fake: Fake) -> None:
    old, new = fake("hc"), fake("mhc")
    del old.config["model"]["norm_eps"]
    assert len(comparisons([old, new])) == 1


def test_studies_stay_apart(fake: Fake) -> None:
    assert [each.study for each in comparisons([fake(study="b"), fake(study="a")])] == ["a", "b"]


@pytest.mark.parametrize(("name", "said"), [("enwik8", "enwik8"), ("synthetic", "SYNTHETIC DATA")])
def test_the_protocol_names_its_data(fake: Fake, name: str, said: str) -> None:
    (found,) = comparisons([fake("mhc", data__name=name, connection__n=4)])
    assert found.protocol == f"8 blocks × 256, n = 4, peak learning rate 0.0003, 60 steps of 32 × 128, {said}"
