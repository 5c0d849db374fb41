import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from drawn_lines import data
from made_runs import make_run
from mhc_repro.analysis import theme
from mhc_repro.analysis.figures import OF_EACH
from mhc_repro.analysis.figures.training import gain_by_layer, loss_gap, training, twins
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.curves import gaps
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.verdicts import Verdict
from mhc_repro.runs import Run, read_runs
from mhc_repro.schema import GAINS


@pytest.fixture
def fixture(runs: list[Run]) -> Comparison:
    (found,) = comparisons(runs)
    return found


def drawn(ax: Axes, arm: str, gid: str | None = None) -> list[Line2D]:
    """Lines of an arm's colour; without gid those that are a run's own curve."""
    of_arm = [line for line in ax.lines if line.get_color() == style(arm).colour]
    return [line for line in of_arm if (line.get_gid() if line.get_gid() in _GIDS else None) == gid]


_GIDS = ("raw", "val", "diverged", "seed", "mean")


def measured(run: Run, key: str) -> dict[float, float]:
    return dict(run.metrics.set_index("step")[key].dropna())


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw losses as they are, however near to each other."""
    monkeypatch.setattr("mhc_repro.analysis.figures.training.COINCIDE", 0.0)


def test_training_shows_what_was_measured(fixture, apart):
    loss, gradient, composite, activation = training(fixture).axes
    for arm, (run,) in fixture.arms.items():
        (raw,), (val,) = drawn(loss, arm, "raw"), drawn(loss, arm, "val")
        assert data(raw) == measured(run, "loss/train")
        assert data(val) == measured(run, "loss/val")
        assert len(drawn(gradient, arm)) == 1
        backward, forward = drawn(composite, arm)
        assert data(backward) == measured(run, "gain/composite_backward")
        assert data(forward) == measured(run, "gain/composite_forward")
        assert data(drawn(activation, arm)[0]) == measured(run, "gain/activation")
    assert [ax.get_xlabel() for ax in (loss, gradient, composite, activation)] == ["step"] * 4
    assert loss.get_ylabel() == "nats per symbol"


@pytest.mark.parametrize(("away", "together"), [(0.01, True), (0.2, False)])
def test_losses_that_coincide_are_drawn_as_differences(fake, away, together):
    def rows(above: float) -> list[dict[str, float]]:
        return [{"step": step, "loss/train": 3.0 - step / 200 + above} for step in range(1, 201)]

    (found,) = comparisons([fake("baseline", rows(0.0)), fake("hc", rows(away)), fake("mhc", rows(-away))])
    ax = training(found).axes[0]
    assert ax.get_title(loc="left").startswith("(a) Loss − baseline's" if together else "(a) Loss: train")
    (curve,) = drawn(ax, "mhc")
    assert np.median(curve.get_ydata()) == pytest.approx(-away if together else 2.5 - away, abs=0.01)
    assert bool(drawn(ax, "baseline", "raw")) != together


def test_a_diverged_run_ends_in_a_cross_at_its_step(fixture):
    for ax in training(fixture).axes:
        (cross,) = [line for line in ax.lines if line.get_gid() == "diverged"]
        assert cross.get_color() == style("hc").colour
        ((step, height),) = data(cross).items()
        assert step == 130
        assert ax.get_ylim()[0] <= height <= ax.get_ylim()[1]


def test_a_loss_that_runs_away_does_not_flatten_the_others(fake):
    calm = [{"step": step, "loss/train": 3.0 - step / 1000} for step in range(1, 400)]
    away = [{"step": step, "loss/train": 3.0 + np.exp(step - 330)} for step in range(1, 340)]
    (found,) = comparisons([fake("baseline", calm), fake("hc", away, state="diverged", step=340)])
    assert training(found).axes[0].get_ylim()[1] < 3.1
    assert loss_gap(found).axes[0].get_ylim()[1] < 0.5


def test_a_late_surge_of_a_run_that_goes_on_is_in_view(fake):
    calm = [{"step": step, "loss/train": 3.0} for step in range(1, 400)]
    surge = [{"step": step, "loss/train": 3.0 + (step > 370)} for step in range(1, 400)]
    (found,) = comparisons([fake("baseline", calm), fake("hc", surge)])
    assert loss_gap(found).axes[0].get_ylim()[1] > 0.9


def test_legend_names_the_arms_and_their_flags(runs, fake):
    rows, control = runs[0].metrics.to_dict("records"), Verdict(control=("h_res_identity",))
    identity = fake("identity", rows, study="fixture", verdict=control)
    identity.config.update({key: value for key, value in runs[0].config.items() if key != "connection"})
    (found,) = comparisons([*runs, identity])
    labels = [text.get_text() for text in training(found).legends[0].get_texts()]
    assert labels == ["baseline", "mHC, H_res = I (control)", "HC", "mHC (dead)", "diverged"]


def test_titles_say_study_protocol_and_seeds(fixture):
    for _, _, draw in OF_EACH:
        title = draw(fixture).get_suptitle()
        assert "study fixture, one seed (0)" in title
        assert "2 blocks × 32" in title
        assert "SYNTHETIC DATA" in title


def test_gain_by_layer_shows_the_last_probe_and_the_largest(fixture):
    axes = gain_by_layer(fixture).axes
    for ax, key in zip(axes, GAINS, strict=True):
        for arm in ("hc", "mhc"):
            (run,) = fixture.arms[arm]
            table = run.gains.pivot(index="layer", columns="step", values=key)
            largest, last = drawn(ax, arm)
            assert data(last) == dict(table[table.columns.max()])
            assert data(largest) == dict(table.max(axis=1))
        (reference,) = drawn(ax, "baseline")
        assert set(reference.get_ydata()) == {1.0}
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert axes[2].get_ylim() == axes[3].get_ylim()


@pytest.mark.parametrize(
    ("gains", "scale", "low", "high"),
    [
        ([1.0, 1.0000001], "linear", 0.9, 1.1),
        ([1.0, 1.65], "linear", 0.5, 1.8),
        ([1.0, 871.0], "log", 0.5, 2000.0),
    ],
)
def test_gain_axis_neither_hides_nor_dramatises(fake, gains, scale, low, high):
    rows = [{"step": 0, "layer": layer, **dict.fromkeys(GAINS, gain)} for layer, gain in enumerate(gains, 1)]
    ax = gain_by_layer(comparisons([fake("mhc", gains=rows)])[0]).axes[2]
    assert ax.get_yscale() == scale
    assert low <= ax.get_ylim()[0] <= min(gains)
    assert max(gains) <= ax.get_ylim()[1] <= high


def test_gap_pairs_batches_of_the_same_seed(fake):
    def rows(offset: float, seed: int) -> list[dict[str, float]]:
        batch = np.random.default_rng(seed).normal(3, 1, 200)
        return [{"step": step, "loss/train": batch[step] + offset * step} for step in range(1, 200)]

    runs = [fake("baseline", rows(0, seed), seed=seed) for seed in (0, 1)]
    runs += [fake("mhc", rows(slope, seed), seed=seed) for seed, slope in enumerate((-0.001, 0.002, 0))]
    (found,) = comparisons(runs)
    exact = gaps(found.arms["mhc"], found.arms["baseline"], "loss/train")
    assert sorted(exact) == [0, 1]
    assert exact[1].to_numpy() == pytest.approx(0.002 * np.arange(1, 200))
    first, second = drawn(loss_gap(found).axes[0], "mhc")
    # a running mean leaves a straight line alone where its window is whole
    assert [data(first)[100], data(second)[100]] == pytest.approx([-0.1, 0.2])


def test_gap_without_a_baseline_is_empty(fake):
    figure = loss_gap(comparisons([fake("mhc", [{"step": 1, "loss/train": 3.0}])])[0])
    assert drawn(figure.axes[0], "mhc") == []


@pytest.mark.parametrize("levels", [(1.0, 2.0), (1.0, 2.0, 6.0)])
def test_three_seeds_are_thin_under_their_mean_in_which_one_without_a_value_takes_no_part(fake, levels):
    rows = [[{"step": step, "gain/activation": level + step} for step in range(5)] for level in levels]
    runs = [fake("hc", of_seed, seed=seed) for seed, of_seed in enumerate(rows)]
    (found,) = comparisons([*runs, fake("hc", [{"step": 0}], seed=9, state="failed")])
    activation = training(found).axes[3]
    shown = [[data(line) for line in drawn(activation, "hc", gid) if data(line)] for gid in ("seed", "mean")]
    curves = [{step: pytest.approx(level + step) for step in range(5)} for level in (*levels, 3.0)]
    assert shown == ([curves[:3], curves[3:]] if len(levels) == 3 else [[], []])


def test_a_run_that_has_only_begun_is_drawn_all_the_same(fake):
    begun = [fake("baseline", [], state="running"), fake("hc", [{"step": 0, "loss/val": 5.5}])]
    (found,) = comparisons(begun)
    for _, _, draw in OF_EACH:
        theme.to_svg(draw(found))


def test_same_runs_same_bytes_and_no_trace_left(runs, fixture):
    before = dict(rcParams)
    (again,) = comparisons(read_runs(runs[0].path.parents[1])[::-1])
    for _, _, draw in OF_EACH:
        svg = theme.to_svg(draw(fixture))
        assert svg == theme.to_svg(draw(again))
        assert "<text" not in svg
        assert "<dc:date>" not in svg
    assert dict(rcParams) == before


def test_figures_are_small_enough_to_commit(tmp_path):
    for arm in ("baseline", "hc", "mhc"):
        make_run(tmp_path, arm, steps=2000)
    (found,) = comparisons(read_runs(tmp_path))
    assert all(len(theme.to_svg(draw(found))) < 250_000 for _, _, draw in OF_EACH)


def noisy_losses(seed: int, offset: float, own: int = 0) -> list[dict[str, float]]:
    batch = np.random.default_rng(seed).normal(3, 0.1, 60)
    small = np.random.default_rng([seed, own]).normal(0, 1e-4, 60)
    return [{"step": s + 1, "loss/train": batch[s] + offset + small[s]} for s in range(60)]


def test_an_arm_that_coincides_with_another_is_drawn_against_it(fake):
    offsets = {"baseline": 0.0, "hc": -0.05, "mhc": 0.1, "mhc_lite": 0.101}
    runs = [
        fake(arm, noisy_losses(seed, offset * (1 + seed), own), seed=seed)
        for own, (arm, offset) in enumerate(offsets.items())
        for seed in range(3)
    ]
    (found,) = comparisons(runs)
    assert twins(found) == {"mhc_lite": "mhc"}
    first, second = loss_gap(found).axes
    assert {str(line.get_label()) for line in first.lines} == {"_baseline", "_hc", "_mhc"}
    assert {str(line.get_label()) for line in second.lines} == {"_baseline", "_mhc_lite"}
    assert second.get_title(loc="left") == "(b) mHC-lite against mHC"
    (mean,) = [line for line in second.lines if line.get_gid() == "mean"]
    assert np.asarray(mean.get_ydata()) == pytest.approx(0.002, abs=3e-4)
    few = comparisons([run for run in runs if run.seed < 2])
    assert twins(few[0]) == {}


def test_an_arm_with_fewer_seeds_is_thin_and_says_how_many(fake, apart):
    arms = [("baseline", 3), ("hc", 3), ("mhc", 2)]
    runs = [fake(arm, noisy_losses(seed, 0.1), seed=seed) for arm, count in arms for seed in range(count)]
    (found,) = comparisons(runs)
    figure = training(found)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["baseline", "HC", "mHC, 2 seeds"]
    mhc = [line for line in figure.axes[0].lines if line.get_label() == "_mhc" and line.get_gid() != "val"]
    assert {line.get_visible() for line in mhc if line.get_gid() == "raw"} == {False}
    assert max(line.get_linewidth() for line in mhc) <= 0.6
