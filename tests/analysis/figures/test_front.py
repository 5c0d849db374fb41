"""The one picture: marks stand at a run's gain and loss minus the baseline's, and at what a pair differs by."""

from math import inf, log10

import pytest

from mhc_repro.analysis.figures import front
from mhc_repro.evidence.comparison import comparisons

ARMS = ("hc", "mhc")


@pytest.fixture
def setting(fake):
    """Baseline, HC and mHC of three seeds; HC diverges in the second, mHC in the third."""

    def run(arm, seed, bits, gain):
        rows = [{"step": 0, "gain/composite_forward": gain}, {"step": 60, "bpc/test": bits}]
        return fake(arm, rows, seed=seed, state="diverged" if bits == inf else "finished")

    ended = {"baseline": (3.0, 3.5, 4.0), "hc": (3.25, inf, 3.75), "mhc": (3.125, 3.75, inf)}
    gains = {"baseline": 1.0, "hc": 100.0, "mhc": 2.0}
    (found,) = comparisons(
        [run(arm, seed, bits, gains[arm]) for arm, of in ended.items() for seed, bits in enumerate(of)]
    )
    return found


def places(ax, **wanted):
    """Read the marks that a panel shows."""
    lines = [
        line for line in ax.lines if all(getattr(line, f"get_{key}")() == is_ for key, is_ in wanted.items())
    ]
    return sorted(point for line in lines for point in zip(line.get_xdata(), line.get_ydata(), strict=True))


@pytest.mark.parametrize("draw", [front.picture, front.half])
def test_a_run_that_did_not_diverge_is_a_mark(setting, draw):
    left, *_ = draw([("8 × 128", setting)], ARMS, {"hc": 3000.0}).axes
    assert places(left, gid="hc") == [(100.0, -0.25), (100.0, 0.25)]
    assert places(left, gid="mhc") == [(2.0, 0.125), (2.0, 0.25)]
    assert left.get_xscale() == "log"
    (dotted,) = (line for line in left.lines if line.get_linestyle() == ":")
    assert log10(dotted.get_xdata()[0]) == pytest.approx(log10(3000))


def test_pairs_stand_in_a_row_and_what_diverged_counts_as_worse(setting):
    _, right = front.picture([("8 × 128", setting), ("the same", setting)], ARMS, {}).axes
    assert places(right, marker="o") == [(-0.125, 0), (-0.125, 1)]
    assert [label.get_text() for label in right.get_yticklabels()] == ["8 × 128", "the same"]
    counts = [text.get_text() for text in right.texts if " of " in text.get_text()]
    assert counts == ["1 of 3"] * 2  # a pair of -0.125, one in which HC diverged, one in which mHC did
