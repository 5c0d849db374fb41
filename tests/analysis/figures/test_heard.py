"""The figures of the depth kernel show what was recorded, and what the tables say."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from mhc_repro.analysis import figures, printed
from mhc_repro.analysis.figures import heard
from mhc_repro.analysis.tables import stability
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.heard import k_hat
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.evidence.styles import style
from mhc_repro.runs import Run

OUTPUTS = 9  # of four blocks, and the embedding's


@pytest.fixture
def listened(fake) -> Callable[..., Run]:
    """Make a run with a depth kernel at two probes, and what goes with it in its metrics."""

    def make(arm: str, seed: int = 0, last: np.ndarray | None = None, **options: object) -> Run:
        random = np.random.default_rng([seed, *arm.encode()])
        rows = [
            {"step": step, "kernel/late_share": late, "kernel/early_share": early, "kernel/cancellation": 1.5}
            for step, (late, early) in zip((0, 30, 60), random.uniform(0.1, 0.4, (3, 2)), strict=True)
        ]
        rows[-1] |= {"loss/val": 2.5, "ablation/last_quarter": 2.5 + random.uniform(0, 0.1)}
        rows[-1] |= {"ablation/last_half": 2.75 + random.uniform(0, 0.1), "attention/logit": 8.0}
        run = fake(arm, rows, seed=seed, model__blocks=4, **options)
        earlier, later = random.uniform(0.5, 2, (2, OUTPUTS, OUTPUTS))
        squares = {0: earlier, 60: later if last is None else last}
        vars(run)["kernel"] = pd.DataFrame(
            {"step": step, "layer": at + 1, "k_hat": square[at, : at + 1]}
            for step, square in squares.items()
            for at in range(OUTPUTS)
        )
        return run

    return make


def comparison(*runs: Run) -> Comparison:
    (found,) = comparisons(runs)
    return found


def shown(ax: Axes) -> np.ndarray:
    """What a heat map shows, NaN where it shows nothing."""
    return np.ma.filled(ax.collections[0].get_array().astype(float), np.nan).reshape(OUTPUTS, OUTPUTS)


def panels(figure: object) -> dict[str, Axes]:
    return {ax.get_title("left"): ax for ax in figure.axes if ax.get_gid() != "scale"}  # type: ignore[attr-defined]


def test_a_heat_map_is_the_mean_over_seeds_of_the_last_probe(listened):
    rng = np.random.default_rng(0)
    squares = rng.uniform(0.5, 2, (3, OUTPUTS, OUTPUTS))
    study = comparison(
        *(listened("hc", seed, square) for seed, square in enumerate(squares)),
        *(listened("baseline", seed, np.ones((OUTPUTS, OUTPUTS))) for seed in range(3)),
    )
    found = panels(heard.kernel(study))
    assert list(found) == ["baseline", "HC"]
    lower = np.tri(OUTPUTS) > 0
    assert shown(found["HC"])[lower] == pytest.approx(squares.mean(0)[lower])
    assert (shown(found["baseline"])[lower] == 1).all()
    for ax in found.values():
        assert np.isnan(shown(ax)[~lower]).all()
        assert ax.yaxis_inverted()  # the readout is the last row
        assert [ax.get_yticklabels()[-1].get_text(), ax.get_xticklabels()[0].get_text()] == ["r", "e"]
        mesh = ax.collections[0]
        assert mesh.norm(1.0) == pytest.approx(0.5)  # white
        assert mesh.norm.vmin * mesh.norm.vmax == pytest.approx(1.0)


def test_without_a_baseline_a_residual_net_stands_by_definition(listened):
    few = [listened("hc", seed) for seed in range(3)]
    found = panels(heard.kernel(comparison(*few, listened("mhc"))))
    assert list(found) == [heard.RESIDUAL, "HC", "mHC, 1 seed"]
    assert (shown(found[heard.RESIDUAL])[np.tri(OUTPUTS) > 0] == 1).all()


def test_what_is_silent_is_at_the_end_of_the_scale_and_not_unseen(listened):
    deaf = np.zeros((OUTPUTS, OUTPUTS))
    deaf[:, 0] = np.arange(1, OUTPUTS + 1)
    figure = heard.kernel(comparison(listened("hc", last=deaf)))
    ax = panels(figure)["HC"]
    assert np.nanmin(shown(ax)) == pytest.approx(1 / OUTPUTS)
    assert np.nanmax(shown(ax)) == OUTPUTS
    (scale,) = (ax for ax in figure.axes if ax.get_gid() == "scale")
    assert [text.get_text() for text in scale.get_xticklabels()] == ["≤ 0.11", "0.33", "1", "3", "9"]


def test_a_probe_that_is_not_finite_gives_way_to_the_one_before(listened):
    broken = listened("hc", last=np.full((OUTPUTS, OUTPUTS), np.nan))
    before = broken.kernel[broken.kernel["step"] == 0]["k_hat"].to_list()
    found = k_hat([broken])
    assert found is not None
    assert found[-1] == pytest.approx(before[-1])
    broken.kernel["k_hat"] = broken.kernel["k_hat"].map(lambda row: row * np.nan)
    assert k_hat([broken]) is None


def test_shares_over_training_end_at_what_the_table_says(listened):
    study = comparison(listened("baseline"), listened("hc"))
    late, early = heard.shares(study).axes
    for arm, (run,) in study.arms.items():
        for ax, name in ((late, "late_share"), (early, "early_share")):
            (line,) = (each for each in ax.lines if each.get_color() == style(arm).colour)
            assert list(line.get_ydata()) == list(run.metrics[f"kernel/{name}"])
            assert line.get_ydata()[-1] == values(run)[name]
    assert late.get_ylim() == early.get_ylim()
    assert late.get_ylim()[0] == 0


def test_bars_are_what_the_table_says_is_lost(listened):
    study = comparison(
        *(listened(arm, seed) for arm in ("baseline", "hc") for seed in range(3)), listened("mhc")
    )
    (ax,) = heard.ablation(study).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["baseline", "HC", "mHC, 1 seed"]
    tables = {each.title: each.frame for each in stability.tables([study])}
    frame = tables[stability.HEARD_TITLE].set_index("arm")
    heights = set()
    for place, (arm, runs) in enumerate(study.arms.items()):
        for name in ("lost_last_quarter", "lost_last_half"):
            bars, texts, marks = (
                [each for each in drawn if each.get_gid() == name]
                for drawn in (ax.patches, ax.texts, ax.lines)
            )
            (bar,) = (each for each in bars if abs(each.get_y() - place) < 0.5)
            (number,) = (each for each in texts if abs(each.xy[1] - place) < 0.5)
            lost = [values(run)[name] for run in runs]
            assert bar.get_width() == pytest.approx(np.mean(lost))
            heights.add((arm, round(bar.get_height(), 6)))
            assert number.get_text() == f"{'mean ' * (len(lost) > 1)}{np.mean(lost):.3f}"
            points = [list(line.get_xdata()) for line in marks if abs(line.get_ydata()[0] - place) < 0.5]
            assert points == ([lost] if len(lost) > 1 else [])
        if len(runs) == 1:
            assert frame.loc["mHC", LEDGER["lost_last_half"].label] == number.get_text()
    assert dict(heights)["mhc"] < dict(heights)["hc"]


def test_an_arm_without_an_end_has_a_dash(listened):
    lost = listened("hc", state="diverged")
    vars(lost)["metrics"] = lost.metrics.drop(columns=["ablation/last_quarter", "ablation/last_half"])
    (ax,) = heard.ablation(comparison(lost, listened("mhc"))).axes
    assert [text.get_text() for text in ax.texts][:2] == [printed.DASH] * 2
    assert len(ax.patches) == 2


def test_only_what_recorded_its_kernel_gets_these_figures(listened, fake):
    own = [name for name, *_ in figures.HEARD]
    assert [each.name for each in figures.of_study([comparison(listened("hc"))])][-3:] == own
    assert not {each.name for each in figures.of_study([comparison(fake("hc"))])} & {*own}
