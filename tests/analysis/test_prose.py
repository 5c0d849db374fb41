"""Numbers in sentences, against the same worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fake_runs import held_by
from mhc_repro.analysis import prose
from mhc_repro.bench import records
from mhc_repro.errors import UserError
from mhc_repro.evidence import torture
from mhc_repro.evidence.comparison import by_study
from mhc_repro.evidence.verdicts import Verdict
from mhc_repro.runs import files

BITS = {  # by setting, arm and seed
    ("one", "baseline"): [3.0, 3.1, 3.2],
    ("one", "hc"): [3.02, 3.14, 3.26],
    ("one", "mhc"): [2.9, 3.0],
    ("two", "baseline"): [4.0],
    ("two", "hc"): [4.001],
    ("twofold", "hc"): [5.0],
    ("close", "hc"): [3.0, 3.1, 3.2],
    ("close", "mhc"): [3.03, 3.13, 3.24],
}
OVER_RATES = {  # by arm and seed, a rate each
    "baseline": [[4.0, 3.5, 3.6], [4.0, 3.7, 3.8], [4.0, 3.6, 3.5]],
    "mhc": [[4.0, 3.6, 3.4], [4.0, 3.7, 3.9]],
    "hc": [[4.0, 3.4]],  # a rate is missing
}


@pytest.fixture
def number(fake, series, tmp_path: Path) -> Callable[[str], str]:
    # No two studies have a training in common.
    steps = {study: 100 + at for at, (study, _) in enumerate(BITS)}
    runs = [
        run
        for (study, arm), of in BITS.items()
        for run in series(arm, *of, seed=range(9), study=study, train__steps=steps[study])
    ]
    runs.append(fake("hc", [{"step": 0}, {"step": 1, "bpc/val": 8.0}], study="late", state="diverged"))
    runs += [
        run
        for arm, of_seeds in OVER_RATES.items()
        for seed, of_rates in enumerate(of_seeds)
        for run in series(arm, *of_rates, seed=seed, study="rates", optim__lr=(1e-3, 3e-3, 1e-2))
    ]
    runs += [
        fake("hc", bits=dim / 100 + lr, study="wide", model__dim=dim, optim__lr=lr)
        for dim in (100, 200)
        for lr in (0.25, 0.5)
    ]
    studies = by_study(runs)
    front = [each for name in ("one", "two") for each in studies[name]]
    return lambda expression: prose.number(expression, studies, front, tmp_path)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("bpc hc in one", "3.020 to 3.260"),
        ("bpc hc in one: each", "3.020 / 3.140 / 3.260"),
        ("bpc hc in two", "4.001"),
        ("bpc hc in one, two", "3.020 to 4.001"),
        ("bpc hc - baseline in one", "0.020 to 0.060"),
        ("bpc hc - baseline in one: mean", "0.040 ± 0.050"),
        ("bpc mhc - baseline in one: size", "0.100"),
        ("bpc mhc - baseline in one: smallest", "-0.100"),
        ("bpc hc / baseline in one: largest", "1.02"),
        ("bpc hc - baseline: settings", "2"),
        (
            "bpc hc - baseline: settings above",
            "1",
        ),  # not the other: by 0.001, less than a run repeated differs by
        ("bpc mhc - baseline: settings below", "1"),
        ("bpc hc - baseline: settings decided", "0"),  # 0.040 ± 0.050
        ("bpc hc - mhc in close: settings decided", "1"),
        ("bpc hc in late", "inf"),
        ("bpc hc in edge_small", "–"),  # a study of which nothing is recorded
        ("bpc baseline in rates at best", "3.500 to 3.700"),
        ("bpc mhc - baseline in rates at best: each", "-0.100 / 0.000"),
        ("rate baseline in rates at best: each", "0.003 / 0.003 / 0.01"),
        ("rate mhc in rates lr 0.001", "0.001"),
        # 3.60 in the mean, 3.63 at 0.01
        ("rate baseline in rates at one rate: each", "0.003 / 0.003 / 0.003"),
        ("sensitivity baseline in rates: each", "0.200 / 0.133 / 0.200"),  # (0.5 + 0 + 0.1) / 3, ...
        ("sensitivity mhc - baseline in rates: each", "0.067 / 0.033"),
        ("sensitivity hc in rates", "–"),
        ("bpc hc in rates at best", "–"),
        ("bpc hc in one at best", "–"),  # one rate is no grid
        ("runs", "39"),
        ("runs diverged", "1"),
        ("runs diverged hc", "1"),
        ("runs diverged mhc", "0"),
        ("runs hc in one, two", "4"),
        ("runs diverged hc in one", "0"),
        ("bpc hc in wide dim 200 lr 0.5", "2.500"),
        ("bpc hc in wide dim 100", "1.250 to 1.500"),
        ("bench step_ratio hc", "–"),
        ("torture kills", "–"),
        ("monitor cost_percent", "–"),
    ],
)
def test_an_expression_is_worked_out(number, expression, text):
    assert number(expression) == text


@pytest.mark.parametrize(
    "wrong", ["bits hc", "bpc", "bpc hc - ", "bpc hc: often", "hc bpc in one", "bpc hc at one"]
)
def test_what_cannot_be_read_is_one_line(number, wrong):
    with pytest.raises(UserError, match="write QUANTITY ARM") as error:
        number(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("bpc hc in nowhere", "nowhere is no study"),
        ("bpc hc in one, twoo", "twoo is no study"),
        ("bpc hcc in one", "hcc is no arm"),
        ("runs lost hc", "lost is no arm"),
        ("bpc hc in rates lr 0.5", "rates lr 0.5 is no setting; there are rates lr 0.001; rates lr 0.003"),
        ("runs diverged hc in wide dim 300", "wide dim 300 is no setting; there are wide dim 100, lr 0.25"),
        ("composite hc - mhc: settings above", "settings are counted of differences whose noise is known"),
        ("bpc hc: settings below", "settings are counted of differences whose noise is known"),
        ("bpc hc - baseline in one, two: mean", "a mean over 2 settings; name one"),
        ("bench step_ratio", "write bench KEY ARM"),
        ("monitor cost", "write monitor look_ratio, or"),
        ("bpc hc / baseline: settings below", "of differences whose noise is known"),
        ("grad_max hc - baseline: settings above", "of differences whose noise is known"),
    ],
)
def test_what_is_not_there_is_named(number, wrong, said):
    with pytest.raises(UserError, match=said) as error:
        number(wrong)
    assert "\n" not in str(error.value)


def test_a_training_that_two_studies_share_or_measure_differently_is_one(fake, tmp_path):
    run = fake("hc", bits=3.0, study="one")
    closer = {"probe__every": 7, "train__val_every": 7, "train__test_windows": 7}
    studies = by_study(
        [
            run,
            held_by("two", run),
            fake("hc", bits=3.0, study="two", **closer),
            fake("hc", bits=3.1, seed=1, study="two"),
            fake("hc", bits=3.2, seed=1, study="two", train__steps=61),
        ]
    )
    assert prose.number("runs hc", studies, [], tmp_path) == "3"
    assert prose.number("runs hc in one", studies, [], tmp_path) == "1"


def test_trainings_with_a_verdict_are_counted(fake, tmp_path):
    off, dead = Verdict(off_the_constraint=("constraint_missed",)), Verdict(dead=("h_res_frozen",))
    runs = [fake("mhc", seed=seed, verdict=each) for seed, each in enumerate((off, dead, Verdict(), off))]
    studies = by_study([*runs, fake("hc", verdict=dead)])
    counted = {
        what: prose.number(f"runs {what}", studies, [], tmp_path)
        for what in (
            "off_the_constraint mhc",
            "dead",
            "dead mhc",
            "off_the_constraint hc",
            "finished off_the_constraint",
        )
    }
    assert [*counted.values()] == ["2", "2", "1", "0", "2"]


def test_a_rate_is_chosen_by_the_validation_loss(fake, tmp_path):
    runs = [
        fake("hc", bits=bits, val=val, study="rates", optim__lr=lr)
        for lr, bits, val in ((3e-4, 3.5, 3.4), (3e-3, 3.4, 3.6), (1e-2, 3.6, 3.7))
    ]
    assert prose.number("rate hc in rates at best", by_study(runs), [], tmp_path) == "0.0003"
    assert prose.number("bpc hc in rates at best", by_study(runs), [], tmp_path) == "3.500"
    assert prose.number("bpc hc in rates at one rate", by_study(runs), [], tmp_path) == "3.500"


def test_at_one_rate_a_study_is_completed_by_others(series, tmp_path):
    asked = [
        *series("hc", 3.0, 3.0, study="few", optim__lr=3e-3, seed=(0, 1)),
        *series("mhc", 3.25, study="few", optim__lr=3e-3),
    ]
    studies = by_study([*asked, *series("mhc", 9.0, 3.5, study="many", optim__lr=3e-3, seed=(0, 1))])
    asking = "bpc mhc - hc in few"
    assert prose.number(f"{asking}: each", studies, [], tmp_path) == "0.250"
    assert prose.number(f"{asking} at one rate: each", studies, [], tmp_path) == "0.250 / 0.500"
    assert prose.number(f"{asking} at one rate: each", by_study(asked), [], tmp_path) == "0.250"


def test_what_was_tortured_is_counted(number, tmp_path):
    parts = {"kills": {"held": 998, "wrong": 2}, "full disks": {"told": 7, "held": 1, "wrong": 1}}
    code = {"commit": "0" * 40, "dirty": False, "diff_sha256": None}
    made = {"date": "2026-11-29", "command": "make torture", **code, "seed": 0, "seconds": 9, "cores": 2}
    files.write_json(tmp_path / torture.FILE, made | {"parts": parts})
    counted = {what: number(f"torture {what}") for what in (*parts, *torture.ENDINGS)}
    assert list(counted.values()) == ["1,000", "9", "999", "7", "3", "0"]
    with pytest.raises(UserError, match=r"torture deaths -->: torture.json has kills, full disks, held"):
        number("torture deaths")
    (tmp_path / torture.FILE).write_text((tmp_path / torture.FILE).read_text().replace("998", "999"))
    with pytest.raises(UserError, match=r"torture.json: changed since it was written"):
        number("torture kills")


def test_a_number_of_the_bench_is_the_one_that_is_named(tmp_path):
    costs = {"mhc": {"step_ratio": 1.5, "peak_memory_ratio": 1.25}}
    machine = {"cpu": "c", "device": "cpu", "threads": 1}
    version = {"schema_version": records.SCHEMA_VERSION, "date": "2026-03-04"}
    records.save(version | {"fingerprint": machine, "connections": costs}, tmp_path)
    for key, text in (("step_ratio", "1.50"), ("peak_memory_ratio", "1.25")):
        assert prose.number(f"bench {key} mhc", {}, [], tmp_path) == text
