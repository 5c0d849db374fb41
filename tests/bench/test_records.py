"""The bench's records: where they go, and which one counts."""

from typing import Any

import pytest

from mhc_repro.bench import records
from mhc_repro.errors import UserError


def record(
    date: str = "2026-03-04", arms: int = 2, threads: int = 1, device: str = "cpu", **more: Any
) -> records.Record:
    connections = {f"arm {number}": {} for number in range(arms)}
    made = {"schema_version": records.SCHEMA_VERSION, "date": date}
    return {
        **made,
        "fingerprint": {"cpu": "Maker(R) Chip 7 @ 2GHz", "device": device, "threads": threads},
        "connections": connections,
        **more,
    }


def test_a_record_is_named_by_date_processor_threads_and_kind(tmp_path):
    root = tmp_path / "results"
    assert records.save(record(), root).endswith("results/bench/2026-03-04-maker-r-chip-7-2ghz-1-thread.json")
    assert records.save(record(points=[]), root).endswith("-1-thread-scaling.json")
    assert records.save(record(arms=records.FEW + 1, threads=2), root).endswith("-2-threads-arms.json")
    assert records.save(record(device="Maker A1"), root).endswith("-chip-7-2ghz-maker-a1-1-thread.json")


def test_the_newest_of_its_kind_and_threads_counts(tmp_path):
    assert records.newest(tmp_path) == []
    kept = [
        record("2026-03-04"),
        record("2026-02-05"),
        record("2026-09-09", points=[]),
        record("2026-10-10", 9),
        record("2026-01-01", threads=2),
        record("2026-11-11", monitored={}),
    ]
    for each in kept:
        records.save(each, tmp_path)
    assert records.newest(tmp_path) == [kept[0], kept[4]]
    assert records.newest(tmp_path, records.SCALING) == [kept[2]]
    assert records.newest(tmp_path, records.ALL_ARMS) == [kept[3]]
    assert records.newest(tmp_path, records.MONITOR) == [kept[5]]


def test_a_gpu_takes_the_place_of_no_cpu_nor_of_another_gpu(tmp_path):
    kept = [record(threads=2), record("2026-05-05", device="B"), record("2026-05-05", device="A")]
    for each in kept:
        records.save(each, tmp_path)
    assert records.newest(tmp_path) == [kept[0], kept[2], kept[1]]


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 0}'])
def test_another_schema_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "2026-01-01-x.json").write_text(text)
    with pytest.raises(UserError, match=r"bench/2026-01-01-x\.json: .*make bench"):
        records.newest(tmp_path)


def test_a_record_is_as_it_was_written_or_refused(tmp_path):
    records.save(record(), tmp_path)
    (where,) = tmp_path.glob("bench/*.json")
    where.write_text(where.read_text().replace("2026-03-04", "2026-03-05"))
    with pytest.raises(UserError, match=r"changed since it was written .*make bench"):
        records.newest(tmp_path)
