from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from drawn_lines import data
from mhc_repro.analysis.figures.details import DERIVED, NOTHING, PANELS, details
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.styles import style
from mhc_repro.runs import Run
from mhc_repro.schema import UNITS

KEYS = [key for keys, _, _ in PANELS for key in keys]
LAYERS = 4


def rows(scale: float = 1.0) -> list[dict[str, Any]]:
    found = [
        {"step": step, "layer": layer}
        | {key: scale * (at + layer + step / 100) for at, key in enumerate(KEYS)}
        for step in (0, 20)
        for layer in range(1, LAYERS + 1)
    ]
    # whose column sums are -2, 1, 2 and 2 times it
    backward = [(np.diag([-2, 1, 2, 2]) * row.pop("weakest_column")).ravel() for row in found]
    return [
        row | {"h_single": np.eye(4).ravel(), "h_backward": each}
        for row, each in zip(found, backward, strict=True)
    ]


def metrics(connection: float = 0.1) -> list[dict[str, float]]:
    norms = {"grad/norm_body": 2.0, "grad/norm_connection": connection}
    return [{"step": step, **norms, "lr": 1e-3 * min(step, 10) / 10} for step in range(1, 40)]


def run(fake, arm: str, gains: list[dict[str, float]] | None = None, **options: Any) -> Run:
    n = 1 if arm == "baseline" else 4
    found = metrics(0.0 if n == 1 else 0.1)
    return fake(arm, found, gains=gains, model__blocks=LAYERS // 2, connection__n=n, **options)


def drawn(ax: Axes, arm: str) -> list[Line2D]:
    colour = style(arm).colour
    return [line for line in ax.lines if line.get_color() == colour and line.get_gid() != "raw"]


def axes(*runs: Run) -> list[Axes]:
    (found,) = comparisons(list(runs))
    return details(found).axes


def test_every_panel_is_of_a_column_that_runs_write():
    assert set(KEYS) <= set(UNITS["gains"]) | set(DERIVED)


def test_by_sub_layer_it_shows_the_last_probe(fake):
    _, *panels = axes(run(fake, "baseline", rows()), run(fake, "hc", rows(2.0)), run(fake, "mhc", rows()))
    for ax, (keys, _, _) in zip(panels, PANELS, strict=True):
        for arm, scale in (("hc", 2.0), ("mhc", 1.0)):
            for line, key in zip(drawn(ax, arm), keys, strict=True):
                expected = {layer: scale * (KEYS.index(key) + layer + 0.2) for layer in range(1, LAYERS + 1)}
                assert data(line) == pytest.approx(expected)
        assert not drawn(ax, "baseline")  # one stream: nothing to tell apart
        assert ax.get_xlabel().startswith("sub-layer")
    from_identity, from_uniform = drawn(panels[1], "hc")
    assert (from_identity.get_marker(), from_uniform.get_marker()) == (style("hc").marker, "")


def test_gradients_of_body_and_connections_are_told_apart(fake):
    gradient, *_ = axes(run(fake, "baseline"), run(fake, "hc"))
    (body,) = drawn(gradient, "baseline")  # it has no connection of its own: no line at 0
    assert set(body.get_ydata()) == {2.0}
    body, connection = drawn(gradient, "hc")
    assert [set(np.round(line.get_ydata(), 9)) for line in (body, connection)] == [{2.0}, {0.1}]
    assert (body.get_marker(), connection.get_marker()) == ("", style("hc").marker)
    assert gradient.get_xlabel() == "step"


def test_the_shade_has_the_course_of_the_learning_rate(fake):
    gradient, *_ = axes(run(fake, "hc"))
    (shade,) = gradient.collections
    outline = {x: y for x, y in shade.get_paths()[0].vertices if y}
    peak = max(outline.values())
    assert peak == pytest.approx(0.25)
    course = {step: min(step, 10) / 10 for step in range(1, 40)}
    assert {step: y / peak for step, y in outline.items()} == pytest.approx(course)
    assert gradient.get_ylim()[0] > 0.01  # the shade is no data


def test_a_zero_stays_in_view_beside_a_wide_range(fake):
    zero = [row | {"distance_identity": 0.0} for row in rows()]
    _, _, distance, *_ = axes(run(fake, "identity", zero), run(fake, "hc", rows(1000.0)))
    assert distance.get_yscale() == "linear"
    low, high = distance.get_ylim()
    assert low <= 0 < 1000 < high


def test_what_was_not_recorded_is_said(fake):
    old = [{key: value for key, value in row.items() if key != "gate_slope"} for row in rows()]
    *others, gate = axes(run(fake, "hc", old))
    assert [each.get_text() for each in gate.texts] == [NOTHING]
    assert not any(ax.texts for ax in others)
