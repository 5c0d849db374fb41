"""Which figures a study gets."""

from mhc_repro.analysis import figures
from mhc_repro.arm_files import abouts
from mhc_repro.evidence.comparison import comparisons

ALL = [name for name, *_ in figures.OF_EACH]


def test_every_setting_gets_every_figure(fake):
    found = figures.of_study(comparisons([fake(optim__lr=lr) for lr in (0.1, 0.2)]))
    assert [each.name for each in found] == ALL * 2
    assert len({each.path for each in found}) == 2 * len(ALL)
    assert found[0].path == "figures/made-up-lr-0.1-training.svg"
    assert figures.of_study([]) == []


def test_a_sweep_of_depth_gets_one_more_and_first(fake):
    first, *rest = figures.of_study(comparisons([fake(model__blocks=blocks) for blocks in (4, 8)]))
    assert first.path == "figures/made-up-gain-by-depth.svg"
    assert [run.layers for run in first.comparison.runs] == [8, 16]
    assert [each.name for each in rest] == ALL * 2


def test_figures_of_many_arms_are_by_family_and_none_is_lost(fake):
    family = {arm: about.family for arm, about in abouts().items()}
    (whole,) = comparisons([fake(arm) for arm in [*family, "zoo"]])
    split = figures.families(whole)
    assert [each.setting for each in split] == [*dict.fromkeys(family.values()), "new"]
    for each in split:
        own = {arm for arm in whole.arms if family.get(arm, "new") == each.setting}
        assert set(each.arms) == {"baseline", "mhc"} | own
        assert len(each.arms) <= figures.MANY
    shown = [(each.comparison, each.name) for each in figures.of_study([whole])]
    assert shown == [(each, name) for each in split for name, *_ in figures.OF_FAMILIES]
    (few,) = comparisons([fake("hc"), fake("mhc")])
    assert figures.families(few) == [few]


def test_without_a_baseline_there_is_no_gap_to_it(fake):
    names = [each.name for each in figures.of_study(comparisons([fake("hc"), fake("mhc")]))]
    assert names == [name for name in ALL if name != figures.GAP]
