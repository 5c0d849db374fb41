"""Beside every gain stand late share and C, and a run that broke says where; what knows neither looks as before."""

from collections.abc import Callable

import pandas as pd
import pytest
from msgspec.structs import replace

from mhc_repro.analysis import front, labels, printed, study
from mhc_repro.analysis.tables import arms, cells, differences, pairs, stability
from mhc_repro.arm_files import abouts
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.runs import Run

GAIN = {"gain/composite_forward": 2.0, "gain/composite_backward": 3.0}
KERNEL = {"kernel/late_share": 0.125, "kernel/cancellation": 1.75}
BESIDE = ["late share", "C"]
COUNTED = {"parameters": {"connection": 1}}


@pytest.fixture
def study_of(fake) -> Callable[[dict[str, float]], list[Run]]:
    """Make three seeds of three arms, of which HC alone may know more."""

    def run(arm: str, seed: int, known: dict[str, float]) -> Run:
        last = {"step": 60, "bpc/test": 3.5 + 0.1 * seed, **GAIN, **known}
        return fake(arm, [{"step": 0}, last], seed=seed, manifest=COUNTED)

    return lambda known: [
        run(arm, seed, known if arm == "hc" else {}) for arm in ("baseline", "hc", "mhc") for seed in range(3)
    ]


def tables(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> dict[str, pd.DataFrame]:
    """Build every table that shows a gain."""
    of_study = comparisons(runs)
    by_name = {"made-up": of_study}
    monkeypatch.setattr(front, "chosen", lambda: replace(chosen(), settings=["made-up"]))
    of_arms = {arm: of for each in of_study for arm, of in each.arms.items()}
    return {
        "stability": stability.stability_columns(stability.rows(of_study)),
        "differences": differences.table(of_study),
        "arms": arms.table({arm: abouts()[arm] for arm in of_arms}, of_arms, {}),
        "runs": study._runs(of_study),
        "pairs": pairs.table(by_name),
        "front": as_frame(front.table(front.settings(by_name), by_name, "")),
    }


def as_frame(markdown: str) -> pd.DataFrame:
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines())
    return pd.DataFrame(rows, columns=head)


def test_they_stand_beside_every_gain_with_a_dash_for_runs_without(study_of, monkeypatch):
    for name, frame in tables(study_of(KERNEL), monkeypatch).items():
        if name in ("pairs", "front"):
            assert list(frame.loc[0, ["HC's late share", "HC's C"]]) == ["0.125", "1.750"], name
            assert not {"mHC's late share", "mHC's C"} & {*frame}, name  # nothing but dashes
            continue
        gain = [column for column in frame if "gain" in column][-1]
        after = list(frame).index(gain) + 1
        assert list(frame)[after : after + 2] == BESIDE, name
        arm = frame["arm"].str.strip("`").str.lower()
        assert list(frame[arm == "hc"][BESIDE].to_numpy()[0]) == ["0.125", "1.750"], name
        assert set(frame[arm == "mhc"][BESIDE].to_numpy()[0]) == {printed.DASH}, name


def test_where_nobody_knows_them_the_tables_are_as_they_were(study_of, monkeypatch):
    runs = study_of({})
    for name, frame in tables(runs, monkeypatch).items():
        known = [column for column in frame if column.endswith((" share", "C")) and "−" not in column]
        assert not known, name
    titles = [stability.STABILITY_TITLE, differences.TITLE, stability.PUBLISHED_TITLE]
    assert [each.title for each in stability.tables(comparisons(runs))] == titles
    assert not any(cells.KERNEL in each for each in stability.pieces(comparisons(runs)))


def test_what_is_heard_of_the_depth_has_a_table_of_its_own(fake):
    rows = [{"step": 0}, {"step": 60, **KERNEL, "loss/val": 2.5, "ablation/last_half": 2.75}]
    _, heard, _ = stability.tables(comparisons([fake("hc", rows)]))
    assert heard.title == stability.HEARD_TITLE
    row = heard.frame.set_index("arm").loc["HC"]
    assert (row["late share"], row["lost without the last half"]) == ("0.125", "0.250")
    assert row["lost without the last quarter"] == printed.DASH


def test_a_run_that_broke_says_where_in_every_table_that_has_its_status(fake):
    broke = "forward: streams after sub-layer 5"
    told = {"state": "diverged", "step": 40, "status": {"broke": broke}, "manifest": COUNTED}
    lost = [fake("hc", seed=seed, **told) for seed in (0, 1)]
    said = f"diverged at 40/60 ({broke})"
    assert labels.status(lost[0]) == said
    of_study = comparisons(lost)
    assert stability.stability_columns(stability.rows(of_study)).set_index("arm").loc["HC", "status"] == said
    assert set(study._runs(of_study)["status"]) == {said}
    assert arms.table({"hc": abouts()["hc"]}, {"hc": lost}, {}).loc[0, "note"] == said


@pytest.mark.parametrize(
    ("state", "said"), [("finished", "finished"), ("interrupted", "interrupted at 60/60")]
)
def test_a_run_that_did_not_break_says_nothing_of_it(fake, state, said):
    assert labels.status(fake("hc", state=state)) == said
