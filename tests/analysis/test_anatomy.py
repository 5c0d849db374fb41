from collections.abc import Callable

import numpy as np
import pytest

from mhc_repro.analysis import theme
from mhc_repro.analysis.anatomy import (
    ARMS,
    HC,
    MHC,
    QUARTER,
    activation,
    asymmetry,
    beside,
    difference,
    gradient,
    losses,
    prediction,
    quartered,
    recorded,
    separation,
    symmetry,
    twins,
    with_streams,
)
from mhc_repro.analysis.arms import style
from mhc_repro.analysis.comparison import Comparison, comparisons
from mhc_repro.runs import Run

Fake = Callable[..., Run]
RATIO = {"baseline": 21.0, HC: 22.0, MHC: 6.5, QUARTER: 6.4}


@pytest.fixture
def train(fake: Fake) -> Callable[..., Run]:
    """Make a run of study published: losses on shared batches, connections without a gradient in the mHC arm."""

    def make(arm: str, gap: float = 0.0, **options: object) -> Run:
        batch = np.random.default_rng(0).normal(3, 0.1, 61)
        dead = arm == MHC
        rows = [{"step": 0, "streams/spread": 0.0}]
        for step in range(1, 61):
            rows.append(
                {
                    "step": step,
                    "loss/train": batch[step] + gap,
                    "grad/norm": 2.0,
                    "grad/norm_body": 2.0,
                    "grad/norm_connection": 0.0 if dead or arm in ("baseline", QUARTER) else 0.5,
                }
            )
            if step % 20 == 1:
                rows[-1] |= {
                    "gain/activation": RATIO.get(arm, 1.0) + step,
                    "streams/spread": 1e-8 * (not dead),
                }
        streams = 1 if arm in ("baseline", QUARTER) else 2
        h = np.full((2, 2), 0.5) if dead else np.array([[1.0, 0.1], [0.1, 1.0]])
        gains = [
            {"step": step, "layer": layer, "h_single": h.ravel()[: streams**2]}
            for step in (0, 60)
            for layer in (1, 2)
        ]
        return fake(arm, rows, study="published", gains=gains, connection__n=streams, **options)

    return make


@pytest.fixture
def four(train: Callable[..., Run]) -> Comparison:
    (found,) = comparisons([train("baseline", 0.2), train(HC), train(MHC), train(QUARTER, 1e-6)])
    return found


def test_a_quarter_of_the_growth_is_near_what_was_published() -> None:
    assert quartered(25.40) == pytest.approx(7.10)
    assert quartered(1.0) == 1.0
    assert quartered(9.0, n=8) == 2.0


def test_published_and_ours_stand_beside_each_other(four: Comparison) -> None:
    table = beside(four)
    assert table.loc['avg "amax gain"', ("baseline", "published")] == 25.40
    assert table.loc['max "amax gain"', (style(MHC).label, "published")] == 11.70
    for arm, ratio in RATIO.items():
        label = style(arm).label
        # probed after steps 1, 21 and 41
        assert table.loc['avg "amax gain"', (label, "here")] == pytest.approx(ratio + 21)
        assert table.loc['max "amax gain"', (label, "here")] == pytest.approx(ratio + 41)
    loss = four.arms[HC][0].metrics.set_index("step")["loss/train"]
    assert table.loc["final loss (nats)", (style(HC).label, "here")] == loss[41]


def test_without_runs_only_the_published_side_is_filled() -> None:
    table = beside(None)
    assert table.xs("here", axis=1, level=1).isna().all(axis=None)
    assert table.xs("published", axis=1, level=1).notna().all(axis=None)
    rows = prediction(None)
    assert rows.loc[('avg "amax gain"', "published"), "1 + (baseline − 1)/4"] == pytest.approx(7.10)
    assert rows.loc[('avg "amax gain"', "here")].isna().all()


def test_the_prediction_is_made_from_the_baseline_of_the_same_row(four: Comparison) -> None:
    row = prediction(four).loc[('max "amax gain"', "here")]
    assert row.tolist() == pytest.approx([62.0, 1 + 61 / 4, 47.5, 47.4])


def test_asymmetry_is_zero_for_what_treats_streams_alike_alone() -> None:
    alike = 0.7 * np.eye(4) + 0.2 * np.ones((3, 4, 4))
    assert asymmetry(alike) == pytest.approx(0.0, abs=1e-15)
    assert asymmetry(np.full((2, 2), 0.5)) == 0.0
    for place in ((1, 2, 2), (1, 0, 3)):
        other = alike.copy()
        other[place] += 0.12
        assert asymmetry(other) == pytest.approx(0.12 * (3 / 4 if place[1] == place[2] else 11 / 12))
    assert asymmetry(np.eye(4)[[1, 0, 2, 3]]) > 0.5


def test_symmetry_tells_dead_arms_from_working_ones(four: Comparison, fake: Fake) -> None:
    rows = [
        {
            "step": 1,
            "streams/spread": 0.4,
            "grad/norm_body": 1.0,
            "grad/norm_connection": 0.3,
            "loss/train": 3.0,
        }
    ]
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


def test_what_is_recorded_and_what_is_not_is_said(train: Callable[..., Run]) -> None:
    dead = {"degenerate": ["streams_never_separated"]}
    (found,) = comparisons([train("baseline"), train(MHC, status=dead), train(HC, state="running")])
    lines = recorded(found).splitlines()
    assert lines[0].startswith("study published: ")
    assert lines[1] == "  baseline: finished, 60 of 60 steps"
    assert lines[2] == "  HC, enwik8 repr.: no run yet; make study STUDY=published makes it"
    assert lines[3].endswith("finished, 60 of 60 steps; degenerate: streams never separated")
    assert "no run yet" in lines[4]
    assert recorded(None).count("no run yet") == 4


def test_losses_are_compared_batch_by_batch(four: Comparison) -> None:
    assert difference(four, MHC, QUARTER).to_numpy() == pytest.approx(np.full(60, -1e-6))
    assert difference(four, MHC, "identity").empty
    assert difference(None, MHC, QUARTER).empty
    first, second = twins(four).splitlines()
    assert "at most 1.0e-06 nats apart in 60 batches" in first
    assert "at most 2.0e-01 nats apart in 60 batches" in second
    assert twins(None).count("has no run yet") == 2


def test_activation_draws_every_arm_and_the_quarter(four: Comparison) -> None:
    ax = activation(four).axes[0]
    (rule,) = [line for line in ax.lines if line.get_label() == "1 + (baseline − 1)/4"]
    (baseline,) = [line for line in ax.lines if line.get_color() == style("baseline").colour]
    assert np.asarray(rule.get_ydata()) == pytest.approx(1 + (np.asarray(baseline.get_ydata()) - 1) / 4)
    assert {line.get_color() for line in ax.lines} >= {style(arm).colour for arm in ARMS}


def test_an_exact_zero_stays_in_view(four: Comparison) -> None:
    for ax in separation(four).axes:
        (line,) = [line for line in ax.lines if line.get_color() == style(MHC).colour]
        assert set(line.get_ydata()) == {0.0}
        assert ax.get_ylim()[0] < 0 < ax.get_ylim()[1]
        assert ax.get_yticklabels()[0].get_text() == "0"


def test_losses_draw_the_distance_from_each_reference(four: Comparison) -> None:
    gap = losses(four).axes[1]
    for arm, apart in (("baseline", 0.2), (QUARTER, 1e-6)):
        (line,) = [line for line in gap.lines if line.get_color() == style(arm).colour]
        assert np.asarray(line.get_ydata()) == pytest.approx(np.full(60, apart))
    assert len(gap.lines) == 2


@pytest.mark.parametrize("arms", [("baseline",), (HC,), (MHC,), (MHC, QUARTER)])
def test_figures_draw_whatever_is_there(train: Callable[..., Run], arms: tuple[str, ...]) -> None:
    (found,) = comparisons([train(arm) for arm in arms])
    theme.to_png(activation(found))
    if {HC, MHC} & set(arms):
        theme.to_png(separation(found))
    if {MHC, "baseline"} & set(arms):
        theme.to_png(losses(found))
