from pathlib import Path

import pandas as pd
import pytest
import yaml

from mhc_repro.analysis import report
from mhc_repro.analysis.tables import published
from mhc_repro.errors import UserError
from mhc_repro.evidence import kept
from mhc_repro.evidence import published as others
from mhc_repro.evidence.comparison import by_study
from mhc_repro.evidence.ledger import LEDGER
from mhc_repro.evidence.published import Quoted
from mhc_repro.runs import Run, checkout

NAN, INF = float("nan"), float("inf")
ARMS = ("baseline", "hc", "mhc")


def quoted(name: str, fields: tuple[str, ...], *texts: str) -> Quoted:
    numbers = [float(text.removeprefix("≈ ")) for text in texts]
    return Quoted(name, fields, dict(zip(ARMS, texts, strict=True)), dict(zip(ARMS, numbers, strict=True)))


LOSS = quoted("loss", ("loss_final",), "10", "12.0", "11.00")
GAIN = quoted("gain", ("composite_forward", "composite_backward"), "1", "≈ 3000", "≈ 1.6")
JUDGED = {"here": ("ours", "reproduces")}
YAML = (checkout() / others.FILE).read_text(encoding="utf-8")


def summary(value: float, seed: int = 0, state: str = "finished", backward: float = NAN) -> Run:
    """Make a run of which no more is known than these numbers."""
    run = Run(Path("made/up"), {"seed": seed}, {}, {}, state)
    vars(run)["values"] = {"loss_final": value, "composite_forward": value, "composite_backward": backward}
    return run


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


def test_quoted_numbers_are_the_published_ones():
    known = [quantity for source in others.load().values() for quantity in source.quantities]
    assert next(each for each in known if "avg" in each.name).published["baseline"] == 25.4
    assert {quantity.name: tuple(quantity.quoted[arm] for arm in ARMS) for quantity in known} == {
        "final loss (nats)": ("1.876", "1.978", "1.913"),
        "min loss (nats)": ("1.841", "1.844", "1.787"),
        "max grad norm": ("6.18", "6.73", "4.46"),
        'avg "amax gain"': ("25.40", "27.72", "6.99"),
        'max "amax gain"': ("41.82", "61.33", "11.70"),
        "max composite gain": ("1", "≈ 3000", "≈ 1.6"),
    }


def test_every_number_says_where_it_stands_and_what_it_is():
    for source in yaml.safe_load(YAML).values():
        assert source["source"]
        assert source["setting"]
        for about in source["quantities"].values():
            assert set(about) == {"place", "what", "fields", "values"}
            assert about["place"]
            assert about["what"]
            assert set(about["fields"]) <= {*LEDGER}
            assert tuple(about["values"]) == ARMS


def test_what_the_caption_says_of_the_published_losses_holds():
    final, lowest = (quantity.published for quantity in others.load()["reproduction"].quantities[:2])
    excess = [round(100 * (final[arm] / lowest[arm] - 1)) for arm in final]
    assert (min(excess), max(excess)) == (2, 7)
    for loss in (final, lowest):
        assert max(loss.values()) / min(loss.values()) < 1.06
    assert published.TIE < lowest["hc"] / lowest["baseline"] - 1 < 0.002


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "–"),
        ([summary(NAN)], "–"),
        ([summary(11.0)], "yes"),
        ([summary(11.01)], "no"),
        ([summary(9.0)], "yes"),
        ([summary(8.99)], "no"),
        ([summary(10.9), summary(9.1, seed=1)], "yes"),
        ([summary(10.9), summary(12.0, seed=1)], "1 of 2 seeds"),
        ([summary(8.0), summary(12.0, seed=1)], "no"),  # though their mean is the published number
        ([summary(NAN, state="diverged")], "no"),
        ([summary(10.0, state="diverged")], "no"),
        ([summary(10.0), summary(NAN, seed=1, state="diverged")], "1 of 2 seeds"),
        ([summary(NAN, state="failed"), summary(10.0, seed=1)], "yes"),
        ([summary(INF)], "no"),
    ],
)
def test_a_value_reproduces_within_a_tenth_in_every_seed(runs, said):
    assert published.reproduces(LOSS, "baseline", runs) == said


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "–"),
        ([summary(11.0)], "11.0"),
        ([summary(11.04), summary(9.0, seed=1)], "11.0 / 9.0"),
        ([summary(NAN, state="diverged")], "diverged"),
        ([summary(9.0), summary(8.0, seed=1, state="diverged")], "9.0 / 8.0, 1 diverged"),
    ],
)
def test_a_cell_has_the_published_digits_and_every_seed(runs, text):
    assert published.cell(LOSS, "hc", runs) == text


def test_a_cell_of_two_directions_names_them():
    runs = [summary(20.8, backward=21.8), summary(30.0, seed=1, backward=31.0)]
    assert published.cell(GAIN, "hc", runs) == "20.80 / 30.00 fwd, 21.80 / 31.00 bwd"
    assert published.cell(GAIN, "hc", []) == "–"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1.0, 3.0, 2.0), "baseline < mHC < HC"),
        ((3.0, 2.0, 1.0), "mHC < HC < baseline"),
        ((1.841, 1.844, 1.787), "mHC < baseline < HC"),  # the closest published pair is no tie
        ((1.0, 20.0, 1.0000001), "baseline = mHC < HC"),
        ((1.0000001, 20.0, 1.0), "baseline = mHC < HC"),  # a tie is written in one way
        ((5.0, 5.0, 5.0), "baseline = HC = mHC"),
        ((2.0, 1.0, 2.0), "HC < baseline = mHC"),
        ((1.0, INF, INF), "baseline < HC = mHC"),
        ((1.0, 1.0009, 1.0018), "baseline = HC < mHC"),  # 0.18 % apart is no tie, whatever lies between
    ],
)
def test_order_of_the_arms(values, text):
    assert published.order(dict(zip(ARMS, values, strict=True))) == text


def test_orders_are_paired_by_seed():
    arms = {
        "baseline": [summary(1.0), summary(5.0, seed=1)],
        "hc": [summary(9.0, seed=1), summary(0.0, seed=2)],
        "mhc": [summary(6.0, seed=1), summary(0.5, seed=2), summary(0.4)],
    }
    assert published.orders(LOSS, arms) == ["baseline < mHC < HC"]
    assert published.orders(LOSS, arms | {"hc": []}) == []
    assert published.orders(LOSS, arms | {"hc": [summary(NAN, seed=1)]}) == []
    assert published.orders(LOSS, arms | {"hc": [summary(9.0, 1, "diverged")]}) == ["HC diverged"]


def test_orders_of_two_seeds_are_two_orders():
    def last(second: float) -> list[str]:
        losses = {"baseline": (1.0, 1.0), "hc": (3.0, second), "mhc": (2.0, 2.0)}
        runs = {arm: [summary(loss, seed) for seed, loss in enumerate(of)] for arm, of in losses.items()}
        return published.table([LOSS], {"here": runs}, JUDGED, judged=True).iloc[-1].tolist()

    start = ["", "order", "baseline < mHC < HC"]
    assert last(4.0) == [*start, "baseline < mHC < HC", "yes"]
    assert last(1.5) == [*start, "baseline < mHC < HC / baseline < HC < mHC", "1 of 2 seeds"]


def test_a_composite_gain_is_ordered_by_its_larger_direction_and_its_value_not_judged():
    gains = {"baseline": 1.0, "hc": 21.0, "mhc": 1.08}
    runs = {arm: [summary(1.0, backward=gain)] for arm, gain in gains.items()}
    frame = published.table([GAIN], {"here": runs}, JUDGED, judged=False)
    assert frame["reproduces"].tolist() == ["", "", "", "yes"]
    assert frame["ours"].tolist()[-1] == frame["published"].tolist()[-1] == "baseline < mHC < HC"
    uniform = runs | {"mhc": [summary(1.0, backward=1.0)]}
    frame = published.table([GAIN], {"here": uniform}, JUDGED, judged=False)
    assert frame.iloc[-1].tolist()[-2:] == ["baseline = mHC < HC", "no"]


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


def test_a_quarter_of_the_growth_is_near_what_was_published():
    assert published.quartered(25.40) == pytest.approx(7.10)
    assert published.quartered(1.0) == 1.0
    assert published.quartered(9.0, n=8) == 2.0


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("", "expected object, got null"),
        ("a: [", "expected node content"),
        ("paper: {source: x}", "paper: lacks title"),
        (YAML.replace("25.40", "many"), "could not convert"),
        (YAML.replace("fields: [loss_final]", "fields: [loss_lost]"), "fields must be some of "),
        (YAML.replace("fields: [loss_final]", "fields: loss_final"), "final loss (nats)"),
        (YAML.replace("{baseline: 1.876, ", "{"), "final loss (nats): values must be of baseline, hc, mhc"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(text, said, tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    monkeypatch.setattr(kept, "checkout", lambda: tmp_path)
    if text is not None:
        (tmp_path / others.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"^experiments/published.yaml: .*git checkout") as error:
        others.load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_report_fills_the_part(tmp_path):
    root = tmp_path / "results"
    root.mkdir()
    (tmp_path / "README.md").write_text("<!-- report:published --><!-- /report -->", encoding="utf-8")
    texts = report.render(root, {}, with_pages=True)
    assert published.part({}) in texts[report.README]
