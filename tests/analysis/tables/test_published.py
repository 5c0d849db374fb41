from pathlib import Path

import pytest
import yaml

from mhc_repro.analysis.tables import published
from mhc_repro.errors import UserError
from mhc_repro.evidence import kept
from mhc_repro.evidence import published as others
from mhc_repro.evidence.ledger import LEDGER
from mhc_repro.evidence.published import Quoted
from mhc_repro.places import checkout
from mhc_repro.runs import Run

NAN, INF = float("nan"), float("inf")
ARMS = ("baseline", "hc", "mhc")


def quoted(name: str, fields: tuple[str, ...], *texts: str) -> Quoted:
    return Quoted("here", "made", list(fields), dict(zip(ARMS, texts, strict=True)), name)


LOSS = quoted("loss", ("loss_final",), "10", "12.0", "11.00")
GAIN = quoted("gain", ("composite_forward", "composite_backward"), "1", "≈ 3000", "≈ 1.6")
JUDGED = {"here": ("ours", "reproduces")}
YAML = (checkout() / others.FILE).read_text(encoding="utf-8")


def summary(value: float, seed: int = 0, state: str = "finished", backward: float = NAN) -> Run:
    """Make a run of which no more is known than these numbers."""
    run = Run(Path("made/up"), {"seed": seed}, {}, {}, state)
    vars(run)["values"] = {"loss_final": value, "composite_forward": value, "composite_backward": backward}
    return run


def test_quoted_numbers_are_the_published_ones():
    known = [quantity for source in others.load().values() for quantity in source.quantities.values()]
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
    quantities = others.load()["reproduction"].quantities
    final, lowest = (quantities[f"{name} loss (nats)"].published for name in ("final", "min"))
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


def test_a_quarter_of_the_growth_is_near_what_was_published():
    assert published.quartered(25.40) == pytest.approx(7.10)
    assert published.quartered(1.0) == 1.0


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
