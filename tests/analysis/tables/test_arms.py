"""The table of all arms: every file has a row, promises and measurements meet in it, gaps are dashes."""

from mhc_repro.analysis.printed import DASH
from mhc_repro.analysis.tables import arms, overhead
from mhc_repro.command_line.compose import CONF
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.verdicts import Verdict

ROOT = CONF.parent / "results"


def runs(fake):
    parameters = {"parameters": {"connection": 16_000, "body": 1, "total": 16_001}}
    verdict = Verdict(dead=("h_res_frozen",), not_judged=("constraint_missed",))
    known = {"manifest": parameters, "verdict": verdict}
    rows = [
        {"step": 0, "gain/composite_forward": 1.0, "gain/composite_backward": 1.0},
        {"step": 40, "gain/composite_forward": 1.25, "gain/composite_backward": 7.5},
        {"step": 60, "gain/composite_forward": 1.125, "gain/composite_backward": 2.5, "bpc/test": 3.14159},
    ]
    gains = [
        {"step": step, "layer": layer, "distance_identity": step / 100 + layer / 10}
        for step in (0, 30)
        for layer in (0, 1, 2)
    ]
    return [
        fake("baseline", rows[2:], study="arms", manifest={"parameters": {"connection": 0}}),
        fake("mhc", rows, study="arms", **known, gains=gains, model__blocks=4, connection__n=4),
    ]


def cells(text: str, label: str) -> list[str]:
    """Read the row of an arm."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return next(row for row in found if row[0] == label)


def test_a_row_holds_promise_measurement_and_cost(fake, monkeypatch):
    record = {"connections": {"mhc": {"step_ratio": 1.234, "peak_memory_ratio": 1.456}}}
    monkeypatch.setattr(overhead, "by_place", lambda root, kind="": [[record]])
    monkeypatch.setattr(overhead, "provenance", lambda record: "Bench of a day")
    text = arms.part(comparisons(runs(fake)), ROOT)
    row = cells(text, "`mhc`")
    assert row[4:] == [
        "1 / 4",  # bound
        "A.6",
        "2,000",  # 16,000 over two connections in each of 4 blocks
        "1.23",
        "1.46",
        "0.100 → 0.400",
        "1.250 / 7.500",
        "3.142",
        "dead: H_res never moved; not judged whether H_res sums are off 1",
    ]
    assert cells(text, "`baseline`")[7:9] == ["1.00", "1.00"]
    assert "Bench of a day" in text


def test_what_was_not_measured_is_a_dash(fake, tmp_path):
    text = arms.part(comparisons(runs(fake)[:1]), tmp_path)
    assert cells(text, "`hc`")[6:] == [DASH] * 6 + [""]
