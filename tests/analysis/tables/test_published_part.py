"""The published table of the report: what fills its columns, and what stands there without runs."""

import pandas as pd
import pytest

from mhc_repro.analysis import report
from mhc_repro.analysis.tables import published
from mhc_repro.evidence.comparison import by_study


def rows(loss: float, grad: float = 1.0, gain: float = 1.0, fwd: float = 1.0, bwd: float = 1.0) -> list[dict]:
    """Two printed steps and an unprinted one; the ratio's mean is `gain`, its maximum gain + 1."""
    return [
        {"step": 0},
        {"step": 1, "loss/train": loss + 1, "grad/norm": grad, "gain/activation": gain + 1},
        {"step": 20, "loss/train": 0.01, "grad/norm": 999.0, "gain/composite_forward": fwd},
        {"step": 21, "loss/train": loss, "grad/norm": grad / 2, "gain/activation": gain - 1},
        {"step": 60, "loss/train": 0.02, "grad/norm": 999.0, "gain/composite_backward": bwd},
    ]


def read(part: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reproduction's table and the paper's, by (quantity, arm)."""
    lines = [line for line in part.splitlines() if line.startswith("|") and "---" not in line]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    second = next(at for at, row in enumerate(table) if at and row[0] == "quantity")
    frames = []
    for head, *body in (table[:second], table[second:]):
        frame = pd.DataFrame(body, columns=head)
        frame["quantity"] = frame["quantity"].mask(frame["quantity"] == "").ffill()
        frames.append(frame.set_index(["quantity", "arm"]))
    return frames[0], frames[1]


def test_without_runs_there_is_one_line_and_no_table(fake):
    for found in ({}, by_study([fake(study="quick"), fake("hc", rows(1.9), study="depth")])):
        part = published.part(found)
        assert part.startswith(published.EMPTY)
        assert "|:" not in part


def test_a_study_without_runs_has_dashes_and_no_verdict(fake):
    part = published.part(by_study([fake("published_hc", rows(1.9), study="published")]))
    reproduction, paper = read(part)
    assert (len(reproduction), len(paper)) == (5 * 4, 4)
    assert (reproduction["other protocol"] == "–").all()
    assert set(paper.drop(columns="published").to_numpy().ravel()) <= {"–", ""}
    assert (reproduction["published"] != "–").all()
    assert "Study `stability`: no run yet (`make study STUDY=stability`)" in part


@pytest.mark.parametrize("state", ["running", "interrupted", "failed", "missing"])
def test_an_unfinished_run_is_no_run(fake, state):
    found = by_study([fake("baseline", rows(1.876), study="published", state=state)])
    assert published.part(found) == published.part({})


def test_the_studies_fill_their_columns(fake):
    runs = [
        fake("baseline", rows(1.900, 6.0, 25.0), study="published"),
        fake("published_hc", rows(2.200, 7.0, 40.0), study="published"),
        fake("published_mhc", rows(1.800, 4.6, 7.0), study="published"),
        fake("hc", rows(0.1), study="published"),  # not an arm of this column
        fake("baseline", rows(1.7), study="stability"),
        fake("baseline", rows(2.1), study="stability", seed=1),
        fake("published_mhc", rows(1.9), study="stability"),
        fake("baseline", rows(1.7), study="stress"),
        fake("hc", rows(1.7, fwd=0.5, bwd=3.0), study="stress"),
        fake("mhc", rows(1.7), study="stress"),
    ]
    part = published.part(by_study(runs))
    frame, paper = read(part)
    for quantity, numbers, judged in (
        # 1.913 / 1.8 is within a tenth, 2.2 / 1.978 is not, and the order is another one
        ("final loss (nats)", ["1.900", "2.200", "1.800"], ["yes", "no", "yes", "no"]),
        ("min loss (nats)", ["1.900", "2.200", "1.800"], ["yes", "no", "yes", "yes"]),
        ("max grad norm", ["6.00", "7.00", "4.60"], ["yes", "yes", "yes", "yes"]),
        ('avg "amax gain"', ["25.00", "40.00", "7.00"], ["yes", "no", "yes", "yes"]),
        ('max "amax gain"', ["26.00", "41.00", "8.00"], ["no", "no", "no", "yes"]),
    ):
        assert frame.loc[quantity, "same protocol"].tolist() == [*numbers, "mHC < baseline < HC"]
        assert frame.loc[quantity, "reproduces"].tolist() == judged
    assert frame["other protocol"]["final loss (nats)"].tolist() == ["1.700 / 2.100", "–", "–", "–"]

    gain = paper.loc["max composite gain"]
    assert gain["stability"].tolist() == ["1.000 / 1.000 fwd, 1.000 / 1.000 bwd", "–", "–", "–"]
    assert gain["reproduces, stability"].tolist() == ["", "", "", "–"]
    assert gain["stress"]["HC"] == "0.500 fwd, 3.000 bwd"
    assert gain["stress"]["order"] == "baseline = mHC < HC"
    assert gain["reproduces, stress"].tolist() == ["", "", "", "no"]
    assert "one seed (0)): 3 runs, commit abcdef0." in part
    assert "2 seeds (0, 1)): 2 runs, commit abcdef0." in part


def test_a_diverged_run_reproduces_nothing(fake):
    arms = {"baseline": "finished", "published_hc": "diverged", "published_mhc": "finished"}
    runs = [fake(arm, rows(1.9, 6.5), study="published", state=state) for arm, state in arms.items()]
    frame, _ = read(published.part(by_study(runs)))
    assert frame.loc[("final loss (nats)", "HC"), "same protocol"] == "diverged"
    assert frame.loc[("max grad norm", "HC"), "same protocol"] == "6.50, 1 diverged"
    assert (frame["reproduces"].xs("HC", level="arm") == "no").all()
    assert set(frame["same protocol"].xs("order", level="arm")) == {"HC diverged"}
    assert set(frame["reproduces"].xs("order", level="arm")) == {"no"}


def test_of_two_settings_the_one_with_more_arms(fake):
    runs = [
        fake("baseline", rows(1.5), study="published", optim__lr=1e-4),
        fake("baseline", rows(1.9), study="published", optim__lr=3e-4),
        fake("published_mhc", rows(1.8), study="published", optim__lr=3e-4),
    ]
    part = published.part(by_study(runs))
    frame, _ = read(part)
    assert frame["same protocol"]["final loss (nats)"].tolist() == ["1.900", "–", "1.800", "–"]
    assert "Study `published` (lr 0.0003, one seed (0)): 2 runs" in part


def test_what_the_ratio_is_and_what_a_quarter_of_it_gives(fake):
    # 1 + (25.40 - 1) / 4 and 1 + (41.82 - 1) / 4
    assert "which is 7.1 on average and 11.2 at most; published are 6.99 and 11.70." in published.part({})
    assert "here." not in published.part({})
    quarter = fake("baseline_quarter", rows(1.9, gain=7.5), study="published")
    baseline = fake(rows=rows(1.9, gain=25.0), study="published")  # its ratios are 25 and 26
    part = published.part(by_study([baseline, quarter]))
    assert "From the baseline here it would be 7.00 and 7.25. A plain net with branches" in part
    assert "A plain net with branches times 1/4 has 7.50 and 8.50 here." in part
    died = fake("baseline_quarter", rows(1.9, gain=7.5), study="published", state="diverged")
    part = published.part(by_study([fake(rows=rows(1.9), study="published", state="diverged"), died]))
    assert "has 7.50, 1 diverged and 8.50, 1 diverged here." in part
    assert "From the baseline here" not in part


def test_the_report_fills_the_part(tmp_path):
    root = tmp_path / "results"
    root.mkdir()
    (tmp_path / "README.md").write_text("<!-- report:published --><!-- /report -->", encoding="utf-8")
    texts = report.render(root, {}, with_pages=True)
    assert published.part({}) in texts[report.README]
