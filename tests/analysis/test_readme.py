from collections.abc import Callable

import pytest

from mhc_repro.analysis import readme
from mhc_repro.analysis.comparison import Studies, comparisons
from mhc_repro.analysis.figures import FIGURES
from mhc_repro.errors import UserError
from mhc_repro.runs import Run

Fake = Callable[..., Run]
TEXT = "# Title\n<!-- report:a -->old\n<!-- /report -->\nprose\n<!-- report:b --><!-- /report --> end\n"


def studies(*runs: Run) -> Studies:
    found: Studies = {}
    for each in comparisons(list(runs)):
        found.setdefault(each.study, []).append(each)
    return found


def test_fill_writes_between_the_markers_only() -> None:
    assert readme.fill(TEXT, {"a": "new", "b": "x"}) == (
        "# Title\n<!-- report:a -->\nnew\n<!-- /report -->\nprose\n<!-- report:b -->\nx\n<!-- /report --> end\n"
    )


def test_filling_twice_is_filling_once() -> None:
    once = readme.fill(TEXT, {"a": "new", "b": "x"})
    assert readme.fill(once, {"a": "new", "b": "x"}) == once
    assert readme.fill("no markers", {}) == "no markers"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- report:c --><!-- /report -->", "no part is called 'c'; there are a, b"),
        ("<!-- report:a -->", "<!-- report:a --> is not closed"),
        ("\n<!-- report:a --><!-- report:b --><!-- /report -->", "<!-- report:b --> in line 2 has no pair"),
        ("<!-- /report -->", "<!-- /report --> in line 1 has no pair"),
    ],
)
def test_a_broken_marker_is_named_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("<!-- ", ".*").replace("?", ".")) as error:
        readme.fill(text, {"a": "", "b": ""})
    assert "\n" not in str(error.value)


def test_stability_runs_come_before_quick_ones(fake: Fake) -> None:
    quick, stability = fake(study="quick", train__steps=300), fake(study="stability", seed=3)
    parts = readme.parts(studies(quick), "results")
    assert set(parts) == {"stability-table", "gain-by-depth-figure"} | {f"{name}-figure" for name in FIGURES}
    assert parts.pop("gain-by-depth-figure") == readme.NO_DEPTHS
    for part in parts.values():
        assert "one seed, 300 steps, 8 blocks: a demonstration, not evidence" in part
        assert "commit abcdef0." in part
        assert "`make report`" in part
    assert "](results/figures/quick-training.svg)" in parts["training-figure"]
    parts = readme.parts(studies(quick, stability), "results")
    assert "Study `stability`" in parts["stability-table"]
    assert "one seed (3)" in parts["stability-table"]
    assert "quick" not in "".join(parts.values())


def test_without_runs_no_number_stays(fake: Fake) -> None:
    parts = readme.parts(studies(fake(study="depth")), "results")
    assert set(parts.values()) == {readme.EMPTY, readme.NO_DEPTHS}


def test_the_figure_by_depth_is_that_of_study_depth(fake: Fake) -> None:
    runs = [fake("hc", study=study, model__blocks=blocks) for study in ("depth", "zoo") for blocks in (4, 8)]
    part = readme.parts(studies(*runs), "results")["gain-by-depth-figure"]
    assert "](results/figures/depth-gain-by-depth.svg)" in part
    assert "Study `depth` (blocks 4, one seed (0); blocks 8, one seed (0)): 2 runs" in part
    assert "zoo" not in part


def test_code_that_was_not_committed_is_said(fake: Fake) -> None:
    assert readme.commit(fake(manifest={"dirty": True})) == "abcdef0 with uncommitted changes"
    assert readme.commit(fake(manifest={"commit": "unknown"})) == "unknown"
