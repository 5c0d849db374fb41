import pytest

from mhc_repro.evidence.comparison import Kind, by_study, comparisons, joined, settings, training_key


def test_seeds_and_arms_stand_side_by_side(fake):
    (found,) = comparisons([fake("mhc", seed=1), fake("hc"), fake("mhc"), fake("baseline"), fake("zoo")])
    assert list(found.arms) == ["baseline", "hc", "mhc", "zoo"]
    assert [run.seed for run in found.arms["mhc"]] == [0, 1]
    assert (found.setting, found.slug) == ("", "made-up")


def test_a_swept_setting_is_never_averaged_over(fake):
    runs = [fake(arm, model__blocks=blocks) for blocks in (16, 4, 8) for arm in ("baseline", "hc")]
    found = comparisons(runs)
    assert [each.setting for each in found] == ["blocks 4", "blocks 8", "blocks 16"]
    assert [each.slug for each in found] == ["made-up-blocks-4", "made-up-blocks-8", "made-up-blocks-16"]
    assert all(len(of_arm) == 1 for each in found for of_arm in each.arms.values())


def test_two_protocol_versions_are_two_settings(fake):
    found = comparisons([fake("hc"), fake("hc", manifest={"protocol_version": 99})])
    assert len(found) == 2


def test_a_swept_connection_option_makes_arms_that_share_the_baseline(fake):
    runs = [fake("baseline", connection__n=1)] + [fake("mhc", connection__n=n) for n in (4, 2)]
    (found,) = comparisons(runs)
    assert list(found.arms) == ["baseline", "mhc, n 2", "mhc, n 4"]


def test_studies_stay_apart(fake):
    found = by_study([fake(study="b"), fake(study="a"), fake("hc", study="a")])
    assert list(found) == ["a", "b"]
    assert [[len(each.runs) for each in of_study] for of_study in found.values()] == [[2], [1]]


def test_settings_are_all_that_makes_the_run_id_but_the_seed(fake):
    one, other = (settings(fake("hc", seed=seed, study=study)) for seed, study in ((0, "a"), (1, "b")))
    assert one == other
    assert len(set(one.items())) == len(one)  # all can be hashed
    assert one["protocol_version"]
    assert one["optim.betas"] == (0.9, 0.95)


def test_studies_of_one_net_are_one_setting(fake):
    runs = [fake(arm, study="depth", model__blocks=blocks) for blocks in (4, 8) for arm in ("baseline", "hc")]
    runs += [fake(arm, study="seeds", seed=seed, model__blocks=4) for seed in (2, 1) for arm in ("hc", "mhc")]
    small, large = joined(by_study(runs))
    assert (small.name, large.name) == ("depth blocks 4 + seeds", "depth blocks 8")
    seeds = {arm: [run.seed for run in of_arm] for arm, of_arm in small.arms.items()}
    assert seeds == {"baseline": [0], "hc": [0, 1, 2], "mhc": [1, 2]}


@pytest.mark.parametrize(
    "other",
    [
        *({"optim__lr": 1e-2}, {"connection__n": 8}, {"train__steps": 61}, {"probe__every": 7}),
        {"manifest": {"protocol_version": 99}},
    ],
)
def test_nets_that_differ_are_not_joined(fake, other):
    found = joined(by_study([fake("hc", study="a"), fake("hc", study="b", seed=1, **other)]))
    assert [each.name for each in found] == ["a", "b"]


def test_of_two_runs_of_a_seed_the_first_study_has_its_own_counted(fake):
    first, again = fake("hc", study="a"), fake("hc", study="b", probe__token_map_times=2)
    (found,) = joined(by_study([again, first]))
    assert (found.name, found.runs) == ("a", [first])
    more = fake("hc", study="b", seed=1, probe__token_map_times=2)
    (found,) = joined(by_study([again, more, first]))
    assert (found.name, found.runs) == ("a + b", [first, more])
    failed = fake("hc", study="a", state="failed")
    (found,) = joined(by_study([again, failed]))
    assert found.ended("hc") == {0: again}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        *(({key: 7}, True) for key in ("probe__every", "train__val_windows", "train__test_windows")),
        *(({key: 7}, False) for key in ("seed", "train__steps", "optim__lr", "connection__n")),
    ],
)
def test_a_training_is_one_whatever_is_measured_of_it(fake, other, same):
    assert (training_key(fake("hc", study="a")) == training_key(fake("hc", study="b", **other))) is same


def test_what_old_runs_say_of_guards_makes_no_other_training(fake):
    one, other = fake("hc"), fake("hc")
    other.config["guards"] = {"spread": 1.0}
    assert training_key(one) == training_key(other)


def test_a_kind_is_length_before_size(fake):
    batch = {"data__batch": 16, "data__sequence": 128}
    (found,) = comparisons([fake("hc", train__steps=500, model__blocks=4, **batch)])
    assert found.kind == Kind(1_024_000, 8, 256)
    assert str(found.kind) == "8 × 256, 1.0 M"
    (unknown,) = comparisons([fake("hc", train__steps=0, status={"steps": 500}, **batch)])
    assert unknown.kind.tokens == found.kind.tokens  # of a monitored run that nobody told its length
    assert Kind(2, 4, 64) > Kind(1, 32, 256) > Kind(1, 16, 512)
