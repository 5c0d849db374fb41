"""What the README and the figure say of the bench's records."""

import re
from typing import Any

from mhc_repro.analysis import report
from mhc_repro.analysis.figures.scaling import PATH
from mhc_repro.analysis.figures.scaling import scaling as draw
from mhc_repro.analysis.tables import overhead
from mhc_repro.bench import records
from mhc_repro.evidence.comparison import read_studies


def numbers(ratio: float) -> dict[str, Any]:
    spread = {"step_ratio": ratio, "step_ratio_min": ratio - 0.1, "step_ratio_max": ratio + 0.1}
    extra = {"extra_seconds": ratio - 1, "extra_seconds_min": 0.0, "extra_seconds_max": ratio}
    alone = {"peak_memory_ratio": 1.234, "first_step_seconds": 12.34, "first_step_seconds_warm": 3.21}
    return spread | extra | alone | {"params_added": 98765, "extra_flops": 2 * 10**9, "extra_bytes": 10**9}


def record(date: str = "2026-03-04", cpu: str = "Maker(R) Chip 7 @ 2GHz", **changes: Any) -> dict[str, Any]:
    seconds = {"step_seconds": 0.8, "step_seconds_min": 0.7, "step_seconds_max": 0.9}
    step = seconds | {"peak_memory_bytes": 500 << 20}
    use = {"utilisation": 0.75, "utilisation_min": 0.7, "utilisation_max": 0.8, "tokens_per_second": 5120.0}
    peaks = {"sgemm_flops_per_second": 1.3e11, "first_step_seconds": 1.0, "first_step_seconds_warm": 0.5}
    made = {"schema_version": 1, "date": date, "commit": "0123456789", "dirty": False, "load": 0.1}
    return {
        **made,
        "protocol": "reference",
        "overrides": [],
        "rounds": 9,
        "fingerprint": {"device": "cpu", "threads": 2, "compile": True, "torch": "2.13.0", "cpu": cpu},
        "setting": {"model": {"blocks": 8, "dim": 256}, "data": {"batch": 32, "sequence": 128}},
        "baseline": step | use | peaks | {"parameters": 6_000_000},
        "connections": {"mhc": numbers(1.3), "identity": numbers(1.1)},
        **changes,
    }


def scaling(**changes: Any) -> dict[str, Any]:
    places = [(256, 2, 4096), (256, 4, 4096), (512, 2, 4096), (512, 4, 4096), (256, 4, 1024), (256, 4, 16384)]
    points = [
        {"connection": "mhc", "dim": dim, "n": n, "tokens": tokens, "floor_ratio": 1.05}
        | numbers(1 + n / dim)
        for dim, n, tokens in places
    ]
    made = record(points=points, **changes)
    return {key: value for key, value in made.items() if key not in ("baseline", "connections")}


def test_the_part_holds_the_table_and_what_was_measured_on_what(tmp_path):
    assert overhead.part(tmp_path) == overhead.EMPTY
    records.save(record(), tmp_path)
    text = overhead.part(tmp_path)
    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["baseline", "mHC, H_res = I", "mHC"]
    assert "1.30 (1.20 to 1.40)" in lines[4]
    assert "300 (0 to 1300)" in lines[4]
    assert "| 12.3 / 3.2 |" in re.sub(" +", " ", lines[4])
    assert "+98,765" in lines[4]
    for said in ("Maker(R) Chip 7 @ 2GHz", "2 threads", "torch 2.13.0", "8 blocks × 256"):
        assert said in text
    for said in ("5,120 tokens/s", "0123456"):
        assert said in text
    assert "svg" not in text


def test_an_arm_costs_what_the_newest_record_of_many_that_has_it_says(tmp_path):
    assert overhead.costs(tmp_path) == ({}, [])
    records.save(record(), tmp_path)
    assert overhead.costs(tmp_path)[0] == record()["connections"]
    names = [f"arm {number}" for number in range(12)]
    older = {name: numbers(1.5) for name in names[:10]}
    for date, arms in {"2026-03-05": older, "2026-03-06": dict.fromkeys(names[2:], numbers(1.2))}.items():
        records.save(record(date, connections=arms), tmp_path)
    found, said = overhead.costs(tmp_path)
    assert {name: of["step_ratio"] for name, of in found.items()} == {
        name: 1.5 if name in names[:2] else 1.2 for name in names
    }
    assert [text[1:20] for text in said] == ["Bench of 2026-03-05", "Bench of 2026-03-06"]
    records.save(record("2026-03-07", connections=dict.fromkeys(names, numbers(1.1))), tmp_path)
    assert [text[1:20] for text in overhead.costs(tmp_path)[1]] == ["Bench of 2026-03-07"]


def test_the_figure_draws_every_point_and_the_counted_work():
    figure = draw(scaling())
    by_dim, by_tokens, memory, _ = figure.axes
    drawn = [list(line.get_ydata()) for line in by_dim.lines]
    assert [1 + 2 / 256, 1 + 2 / 512] in drawn  # n = 2
    assert drawn.count([1.05, 1.05]) == 2
    assert list(by_tokens.lines[0].get_xdata()) == [1024, 4096, 16384]
    assert [1.234, 1.234] in [list(line.get_ydata()) for line in memory.lines]


def test_the_report_holds_both_and_keeps_the_figure(tmp_path):
    root = tmp_path / "results"
    records.save(record(), root)
    records.save(scaling(), root)
    (tmp_path / "README.md").write_text("<!-- report:bench -->\n<!-- /report -->\n")
    texts = report.render(root, read_studies(root), with_pages=True)
    assert "1.30 (1.20 to 1.40)" in texts[report.README]
    assert f"](results/{PATH})" in texts[report.README]
    assert PATH in texts
    assert texts == report.render(root, read_studies(root), with_pages=True)
    assert report.stale(texts, root) == []
    report.write(texts, root)
    assert report.stale(texts, root) == []
    assert str(tmp_path) not in "".join(texts.values())


def test_the_table_of_points_shows_counted_beside_measured():
    frame = overhead.points(scaling())
    assert len(frame) == 6
    assert frame.loc[0, "counted"] == "1.05"
    assert frame.loc[0, "extra GFLOP"] == "2.0"
