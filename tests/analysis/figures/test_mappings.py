from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from mhc_repro.analysis import theme
from mhc_repro.analysis.figures.mappings import (
    EMPTY,
    MOST,
    ONE,
    last_probe,
    mappings,
    pictures,
    strength,
    text,
)
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.runs import Run

BLOCKS = 3


def rows(seed: int = 0, n: int = 4, steps: tuple[int, ...] = (0, 20)) -> list[dict[str, Any]]:
    """Gains rows as the probe writes them, of random H_res with some tokens."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for step in steps:
        noise = torch.randn(2 * BLOCKS, 5, n, n, generator=generator, dtype=torch.float64)
        found += [{"step": step} | row for row in gain_rows(torch.eye(n, dtype=torch.float64) + 0.4 * noise)]
    return found


def run(fake, arm: str, gains: list[dict[str, Any]], **options: Any) -> Run:
    n = round(len(gains[0]["h_single"]) ** 0.5)
    return fake(arm, gains=gains, model__blocks=BLOCKS, connection__n=n, **options)


def draw(*runs: Run) -> Figure:
    (found,) = comparisons(list(runs))
    return mappings(found)


def panels(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if any(text.get_gid() == "row" for text in ax.texts)]


def drawn(ax: Axes) -> np.ndarray:
    (mesh,) = [each for each in ax.collections if isinstance(each, QuadMesh)]
    return np.asarray(mesh.get_array())


def printed(ax: Axes, gid: str) -> list[str]:
    return [each.get_text() for each in ax.texts if each.get_gid() == gid]


def bold(ax: Axes, gid: str) -> set[str]:
    return {each.get_text() for each in ax.texts if each.get_gid() == gid and each.get_weight() == "bold"}


def words(figure: Figure) -> list[str]:
    return [each.get_text() for each in figure.texts]


@pytest.mark.parametrize("n", [2, 4, 8])
def test_shows_the_matrices_of_the_last_probe(fake, n):
    gains = rows(n=n)
    figure = draw(run(fake, "hc", gains))
    last = {row["layer"]: row for row in gains if row["step"] == 20}
    expected = [("h_single", 1), ("h_single", 3), ("h_single", 6), ("h_forward", 3), ("h_forward", 6)]
    assert [(each.key, each.layer) for each in pictures(2 * BLOCKS)] == expected
    for ax, (key, layer) in zip(panels(figure), expected, strict=True):
        matrix = np.reshape(last[layer][key], (n, n))
        assert np.array_equal(drawn(ax), matrix)
        assert printed(ax, "cell") == [text(value) for value in matrix.flat]
        assert printed(ax, "row") == [text(value) for value in matrix.sum(1)]
        assert printed(ax, "column") == [text(value) for value in matrix.sum(0)]
    # row 1 is drawn on top, and its sum beside it
    top = min(panels(figure)[0].texts, key=lambda each: (each.get_gid() != "row", each.get_position()[1]))
    assert top.get_text() == text(np.reshape(last[1]["h_single"], (n, n))[0].sum())
    assert panels(figure)[0].yaxis_inverted()


def test_the_bold_sums_are_the_recorded_gains(fake):
    gains = rows()
    last = {row["layer"]: row for row in gains if row["step"] == 20}
    first, middle, end, half, whole = panels(draw(run(fake, "hc", gains)))
    for ax, layer in ((first, 1), (middle, 3), (end, 6)):
        assert {each.lstrip("−") for each in bold(ax, "row")} == {text(last[layer]["single_forward"])}
        assert {each.lstrip("−") for each in bold(ax, "column")} == {text(last[layer]["single_backward"])}
    assert {each.lstrip("−") for each in bold(half, "row")} == {text(last[3]["composite_forward"])}
    assert {each.lstrip("−") for each in bold(whole, "row")} == {text(last[6]["composite_forward"])}
    assert {each.lstrip("−") for each in bold(whole, "column")} == {text(last[1]["composite_backward"])}


def test_the_first_seed_is_shown_and_named(fake):
    runs = [run(fake, "hc", rows(seed), seed=seed) for seed in (3, 4)] + [run(fake, "mhc", rows(9), seed=4)]
    figure = draw(*runs)
    assert "seed 3, the first of 2" in figure.get_suptitle()
    assert "HC" in words(figure)
    assert "mHC: seed 4" in words(figure)
    assert np.array_equal(drawn(panels(figure)[0]).ravel(), runs[0].gains["h_single"].iloc[6])
    assert "one seed (3), " in draw(runs[0]).get_suptitle().replace("\n", ", ")


def test_one_scale_for_all_panels(fake):
    figure = draw(run(fake, "hc", rows(1)), run(fake, "mhc", rows(2)))
    meshes = [ax.collections[0] for ax in panels(figure)]
    colours = {tuple(map(tuple, mesh.to_rgba(np.array([-1.0, 0.0, 0.3, 1.0, 4.0])))) for mesh in meshes}
    assert len(colours) == 1
    assert len({mesh.norm.vmax for mesh in meshes}) == 1
    largest = max(np.abs(drawn(ax)).max() for ax in panels(figure))
    assert largest <= meshes[0].norm.vmax < 10 * max(largest, 10)


def test_strength_is_odd_and_grows_linearly_to_one_then_slower():
    values = np.array([0.0, 0.5, 1.0, 10.0, 100.0, 1000.0])
    assert strength(values, 100.0) == pytest.approx([0, ONE / 2, ONE, (1 + ONE) / 2, 1, 1])
    assert np.array_equal(strength(-values, 100.0), -strength(values, 100.0))


def test_a_probe_that_is_not_finite_is_passed_over(fake):
    gains = rows(steps=(0, 20, 40))
    gains[-1]["h_forward"] = [float("inf")] * 16
    broken = run(fake, "hc", gains, state="diverged", step=41)
    assert last_probe(broken) == 20
    assert last_probe(run(fake, "hc", rows(steps=(0, 20))[:-1])) == 0  # stopped while it was written
    figure = draw(broken, run(fake, "mhc", rows(steps=(0, 20, 40))))
    assert "(step 40)" in figure.get_suptitle()
    assert "HC: step 20, diverged at 41" in words(figure)
    assert "mHC" in words(figure)


def test_column_sums_that_are_no_gains_are_owned_up_to(fake):
    maps = torch.eye(4, dtype=torch.float64).expand(2 * BLOCKS, 5, 4, 4)
    cut = [{"step": 0} | row for row in gain_rows(maps, detached=True)]
    figure = draw(run(fake, "history_detached", cut), run(fake, "hc", rows(steps=(0,))))
    assert "history, detached: no gradient passes" in words(figure)
    assert "HC" in words(figure)


def test_many_arms_get_two_pictures_each_and_the_sums_alone(fake):
    arms = ("identity", "hc", "mhc", "mhc_lite", "kromhc")
    assert len(arms) > MOST
    figure = draw(*(run(fake, arm, rows(seed)) for seed, arm in enumerate(arms)))
    assert len(panels(figure)) == 2 * len(arms)
    assert not any(printed(ax, "cell") for ax in panels(figure))
    assert all(len(printed(ax, "row")) == 4 for ax in panels(figure))


@pytest.mark.parametrize("sizes", [(2, 4, 8), (2, 2, 4, 4, 8)])
def test_panels_lie_apart_and_in_the_figure(fake, sizes):
    arms = ("identity", "hc", "mhc", "mhc_lite", "kromhc")
    figure = draw(*(run(fake, arm, rows(n=n)) for arm, n in zip(arms, sizes, strict=False)))
    boxes = [ax.get_position() for ax in figure.axes]
    assert all(min(box.x0, box.y0) >= 0 and max(box.x1, box.y1) <= 1 for box in boxes)
    for one, other in combinations(boxes, 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0


def test_a_net_of_one_or_two_sub_layers_shows_no_matrix_twice():
    assert [(each.key, each.layer) for each in pictures(1)] == [("h_single", 1)]
    assert {each.layer for each in pictures(1, few=True)} == {1}
    shown = [(each.key, each.layer) for each in pictures(2)]
    assert shown == [("h_single", 1), ("h_single", 2), ("h_forward", 2)]


def test_without_streams_or_without_a_probe_it_says_so(fake):
    unprobed = fake("hc", gains=[], connection__n=4, model__blocks=BLOCKS)
    assert EMPTY in words(draw(run(fake, "baseline", rows(n=1)), unprobed))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.993, "0.99"),
        (-0.004, "0.00"),
        (-1.126, "−1.13"),
        (9.996, "10.0"),
        (-99.94, "−99.9"),
        (99.96, "100"),
        (-8710.4, "−8710"),
        (99999.4, "99999"),
        (-1.26e5, "−1e5"),
        (3e12, "3e12"),
    ],
)
def test_a_number_takes_five_characters_at_most(value, shown):
    assert text(value) == shown
    assert len(shown) <= 5


def test_same_runs_same_small_file(fake):
    runs = [run(fake, arm, rows(3)) for arm in ("hc", "mhc")]
    first, again = (theme.to_svg(draw(*each)) for each in (runs, runs[::-1]))
    assert first == again
    assert "<text" not in first
    assert len(first) < 100_000 * len(runs)
