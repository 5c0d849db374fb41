"""Rows come back as they went in, whole or not at all."""

import math
import os
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhc_repro.errors import UserError
from mhc_repro.runs import Table
from mhc_repro.schema import UNITS

ROWS = [
    {"step": 0, "loss/val": 5.545177444479562},
    {"step": 1, "loss/train": math.nan, "h": [1.0, 0.1, -0.0, 1e-300]},
    {"step": 2, "loss/train": -math.inf, "h": [math.nan, math.inf, 0.5, 3.0]},
    {"step": 12, "loss/train": 5e-324, "loss/val": 0.1 + 0.2},
]


def filled(folder: Path, rows: list[dict] = ROWS, name: str = "metrics") -> Table:
    folder.mkdir(exist_ok=True)
    table = Table(folder, name)
    for row in rows:
        table.append(row)
    return table


def finished(folder: Path, rows: list[dict] = ROWS, name: str = "metrics") -> Table:
    table = filled(folder, rows, name)
    table.finish(UNITS[name])
    return table


def frame_of(folder: Path, rows: list[dict]) -> pd.DataFrame:
    return filled(folder, rows).read()


def bits(values: object) -> list[int]:
    array = np.asarray(values, np.float64)
    return np.where(np.isnan(array), np.nan, array).view(np.int64).tolist()


def test_columns_types_and_missing_values(tmp_path):
    table = filled(tmp_path / "run")
    for frame in (table.read(), (table.finish({}), table.read())[1]):
        assert list(frame.columns) == ["step", "loss/val", "loss/train", "h"]
        assert frame["step"].tolist() == [0, 1, 2, 12]
        assert frame["step"].dtype == np.int64
        assert bits(frame["loss/train"]) == bits([math.nan, math.nan, -math.inf, 5e-324])
        assert bits(frame["loss/val"]) == bits([5.545177444479562, math.nan, math.nan, 0.30000000000000004])
        assert frame["h"][1].dtype == np.float64
        assert pd.isna(frame["h"][0])


def test_whole_numbers_of_a_measured_column_are_floats(tmp_path):
    table = filled(tmp_path / "run", [{"step": 1, "layer": 2, "grad/norm_connection": 0}])
    for frame in (table.read(), (table.finish({}), table.read())[1]):
        assert frame.dtypes.astype(str).tolist() == ["int64", "int64", "float64"]


def test_a_table_that_was_never_written_is_empty(tmp_path):
    table = Table(tmp_path, "gains")
    table.truncate(3)
    table.finish({})
    assert table.read().empty
    assert list(table.read().columns) == ["step"]
    assert list(tmp_path.iterdir()) == []


def test_rows_that_are_waited_for_are_on_the_disk(tmp_path, monkeypatch):
    """A checkpoint counts on them: the operating system may hold what it was handed for half a minute."""
    table, synced = filled(tmp_path / "run"), []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    assert table.sync() == len(ROWS)
    assert synced == [table.jsonl.stat().st_ino]


def test_what_the_manifest_vouches_for_counts_and_not_lines_beside_it(tmp_path):
    table = finished(tmp_path / "run")
    table.jsonl.write_bytes(filled(tmp_path / "other", [{"step": 7}]).jsonl.read_bytes())
    assert table.read()["step"].tolist() == [7]  # as a kill leaves it, before there is a sum
    whole = Table(tmp_path / "run", "metrics", table.checksum())
    assert whole.read()["step"].tolist() == [0, 1, 2, 12]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=6), st.floats())
def test_floats_round_trip_exactly(tmp_path_factory, items, scalar):
    table = filled(tmp_path_factory.mktemp("run"), [{"step": 1, "x": scalar, "h": items}])
    frame = table.read()
    assert bits(frame["x"]) == bits([scalar])
    assert bits(frame["h"][0]) == bits(items)
    table.finish({})
    frame = table.read()
    assert bits(frame["x"]) == bits([scalar])
    with np.errstate(over="ignore"):
        assert bits(frame["h"][0]) == bits(np.asarray(items, np.float32))


def test_numbers_of_numpy_and_torch_are_accepted(tmp_path):
    row = {"step": np.int64(1), "x": np.float32(0.1), "h": np.eye(2, dtype=np.float32).ravel()}
    frame = frame_of(tmp_path / "run", [row])
    assert frame["x"][0] == float(np.float32(0.1))
    assert frame["h"][0].tolist() == [1.0, 0.0, 0.0, 1.0]


def test_a_cut_at_any_byte_reads_as_a_prefix_and_grows_on(tmp_path):
    rows = ROWS[:3]
    whole = filled(tmp_path / "run", rows)
    content = whole.jsonl.read_bytes()
    prefixes = [frame_of(tmp_path / f"prefix{k}", rows[:k]) for k in range(len(rows) + 1)]
    torn = Table(tmp_path, "metrics")
    for cut in range(len(content) + 1):
        whole_lines = content[:cut].count(b"\n")
        torn.jsonl.write_bytes(content[:cut])
        pd.testing.assert_frame_equal(torn.read(), prefixes[whole_lines])
        torn.append({"step": 99})
        assert torn.read()["step"].tolist() == [*(row["step"] for row in rows[:whole_lines]), 99]
        torn.jsonl.write_bytes(content[:cut])
        torn.truncate(1)
        pd.testing.assert_frame_equal(torn.read(), prefixes[min(whole_lines, 2)])
        assert torn.jsonl.read_bytes() == b"".join(content.splitlines(True)[: min(whole_lines, 2)])


def test_damage_before_the_last_line_is_named(tmp_path):
    table = filled(tmp_path / "run")
    first, _, third, *_ = table.jsonl.read_bytes().splitlines(True)
    for damage in (b"\0\0\n", b"12\n", b'{"loss": 1}\n', b'{"step": 1}\n'):
        table.jsonl.write_bytes(first + damage + third)
        with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a row"):
            table.read()


def test_a_row_without_a_step_is_refused(tmp_path):
    with pytest.raises(ValueError, match="step"):
        Table(tmp_path, "metrics").append({"loss/train": 1.0})


def test_finished_tables_refuse_rows_until_truncated(tmp_path):
    table = finished(tmp_path / "run")
    assert [path.name for path in table.jsonl.parent.iterdir()] == ["metrics.parquet"]
    with pytest.raises(RuntimeError, match="finished"):
        table.append({"step": 13})
    table.truncate(2)
    assert [path.name for path in table.jsonl.parent.iterdir()] == ["metrics.jsonl"]
    table.append({"step": 3})
    assert table.read()["step"].tolist() == [0, 1, 2, 3]


def test_equal_rows_give_equal_bytes_even_of_a_reopened_table_and_units_are_inside(tmp_path):
    once, again = finished(tmp_path / "once"), finished(tmp_path / "again")
    assert once.parquet.read_bytes() == again.parquet.read_bytes()
    again.truncate(1)
    for row in ROWS[2:]:
        again.append(row)
    again.finish(UNITS["metrics"])
    assert once.parquet.read_bytes() == again.parquet.read_bytes()
    metadata = pq.read_schema(once.parquet).metadata
    assert metadata[b"schema_version"] == b"1"
    expected = b'{"step": "updates", "loss/val": "nats per symbol", "loss/train": "nats per symbol"}'
    assert metadata[b"units"] == expected


def test_a_kill_between_two_renames_loses_nothing(tmp_path):
    table = filled(tmp_path / "run")
    lines = table.jsonl.read_bytes()
    table.finish({})
    compacted = table.parquet.read_bytes()
    table.jsonl.write_bytes(lines)  # killed in finish, before the lines were removed
    assert len(table.read()) == len(ROWS)
    table.finish({})
    assert table.parquet.read_bytes() == compacted
    table.truncate(1)
    table.parquet.write_bytes(compacted)  # killed in truncate, before the Parquet file was removed
    assert table.read()["step"].tolist() == [0, 1]


def test_truncate_leaves_the_old_rows_until_the_rename(tmp_path, monkeypatch):
    table = filled(tmp_path / "run")
    monkeypatch.setattr("os.replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        table.truncate(0)
    assert len(table.read()) == len(ROWS)


def test_a_broken_parquet_file_is_named(tmp_path):
    table = finished(tmp_path / "run")
    table.parquet.write_bytes(table.parquet.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"metrics\.parquet"):
        table.read()


def test_a_reference_run_stays_below_one_megabyte(tmp_path):
    """Incompressible mantissas: 16 sub-layers, 4 streams, 101 probes and 5 times 64 token maps."""
    random = np.random.default_rng(0)

    def scalars(names: list[str]) -> dict[str, float]:
        return dict(zip(names, random.normal(1, 0.1, len(names)), strict=True))

    def matrices(names: list[str], size: int = 16) -> dict[str, list[float]]:
        return {name: (np.eye(4).ravel().repeat(size // 16) + random.random(size)).tolist() for name in names}

    keys = [{"step": step, "layer": layer} for step in range(0, 2001, 20) for layer in range(1, 17)]
    measured = [
        name for name in UNITS["gains"] if not name.startswith("h_") and name not in ("step", "layer")
    ]
    names = [name for name in UNITS["metrics"] if name != "step"]
    tables = {
        "gains": [
            key | scalars(measured) | matrices(["h_single", "h_forward", "h_backward"]) for key in keys
        ],
        "tokens": [key | matrices(["h_res"], 1024) for key in keys[::20][:80]],
        "metrics": [{"step": step} | scalars(names if step % 20 == 0 else names[:7]) for step in range(2001)],
    }
    sizes = [finished(tmp_path, rows, name).parquet.stat().st_size for name, rows in tables.items()]
    assert sum(sizes) < 1_000_000
