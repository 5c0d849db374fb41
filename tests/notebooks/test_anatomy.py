from dataclasses import replace

import numpy as np
import pytest

from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.verdicts import Verdict
from parts.anatomy import (
    HC,
    MHC,
    asymmetry,
    gradient,
    prediction,
    published_and_ours,
    state_of_arms,
    symmetry,
    twin_losses,
    with_streams,
)


def test_published_and_ours_stand_beside_each_other(four):
    table = published_and_ours(four)
    assert table.loc['avg "amax gain"', ("baseline", "published")] == 25.40
    assert table.loc['max "amax gain"', (style(MHC).label, "published")] == 11.70
    for arm, (run,) in four.arms.items():
        ratio = run.metrics["gain/activation"].dropna()
        label = style(arm).label
        assert table.loc['avg "amax gain"', (label, "here")] == pytest.approx(ratio.mean())
        assert table.loc['max "amax gain"', (label, "here")] == ratio.max()
    loss = four.arms[HC][0].metrics.set_index("step")["loss/train"]
    assert table.loc["final loss (nats)", (style(HC).label, "here")] == loss[41]


def test_without_runs_only_the_published_side_is_filled():
    table = published_and_ours(None)
    assert table.xs("here", axis=1, level=1).isna().all(axis=None)
    assert table.xs("published", axis=1, level=1).notna().all(axis=None)
    rows = prediction(None)
    assert rows.loc[('avg "amax gain"', "published"), "1 + (baseline − 1)/4"] == pytest.approx(7.10)
    assert rows.loc[('avg "amax gain"', "here")].isna().all()


def test_the_prediction_is_made_from_the_baseline_of_the_same_row(four):
    row = prediction(four).loc[('max "amax gain"', "here")]
    assert row.tolist() == pytest.approx([62.0, 1 + 61 / 4, 47.5, 47.4])


def test_asymmetry_is_zero_for_what_treats_streams_alike_alone():
    alike = 0.7 * np.eye(4) + 0.2 * np.ones((3, 4, 4))
    assert asymmetry(alike) == pytest.approx(0.0, abs=1e-15)
    assert asymmetry(np.full((2, 2), 0.5)) == 0.0
    for place in ((1, 2, 2), (1, 0, 3)):
        other = alike.copy()
        other[place] += 0.12
        assert asymmetry(other) == pytest.approx(0.12 * (3 / 4 if place[1] == place[2] else 11 / 12))
    assert asymmetry(np.eye(4)[[1, 0, 2, 3]]) > 0.5


def test_symmetry_tells_dead_arms_from_working_ones(four, fake):
    of_training = {"loss/train": 3.0, "grad/norm_body": 1.0, "grad/norm_connection": 0.3}
    rows = [{"step": 1, "streams/spread": 0.4, **of_training}]
    gains = [{"step": 1, "layer": 1, "h_single": np.array([1.0, 0.0, 0.3, 1.0])}]
    others = [fake(arm, rows, study="quick", gains=gains, connection__n=2) for arm in ("hc", "mhc")]
    others.append(fake("baseline", rows, study="quick", gains=[]))
    studies = {"published": [four], "quick": comparisons(others)}
    runs = with_streams(studies)
    assert [run.connection for run in runs] == [HC, MHC, "hc", "mhc"]
    table = symmetry(runs)
    assert table.loc[("published", style(MHC).label)].tolist() == [0.0, 0.0, 0.0]
    assert table.loc[("published", style(HC).label)].tolist() == pytest.approx([1e-8, 0.25, 0.0])
    assert table.loc[("quick", "mHC")].tolist() == pytest.approx([0.4, 0.3, 0.15])
    assert with_streams({"published": [four]}) == runs[:2]
    assert with_streams({}) == []
    assert symmetry([]).empty
    assert gradient(runs[0]).tolist() == pytest.approx([0.25] * 60)


def test_what_is_recorded_and_what_is_not_is_said(published):
    dead = published(MHC, verdict=Verdict(("streams_never_separated",)))
    (found,) = comparisons([published("baseline"), dead, published(HC, state="running")])
    lines = state_of_arms(found).splitlines()
    assert lines[0].startswith("study published: ")
    assert lines[1] == "  baseline: finished, 60 of 60 steps"
    assert lines[2] == "  HC, enwik8 repr.: no run yet; make study STUDY=published makes it"
    assert lines[3].endswith("finished, 60 of 60 steps; dead: streams never separated")
    assert "no run yet" in lines[4]
    assert state_of_arms(None).count("no run yet") == 4


def test_losses_are_compared_batch_by_batch(four):
    first, second = twin_losses(four).splitlines()
    assert "at most 1.0e-06 nats apart in 60 batches, 1.0e-06 on average" in first
    assert "at most 2.0e-01 nats apart in 60 batches" in second
    alone = replace(four, arms={"baseline": four.arms["baseline"], MHC: four.arms[MHC]})
    lacking = "mHC, enwik8 repr. against baseline, F/4: one of the two has no run yet"
    assert twin_losses(alone).splitlines() == [lacking, second]
    assert twin_losses(None).count("has no run yet") == 2
