"""A table that a kill cannot spoil: JSON lines while it grows, Parquet when it is done.

Rows are plain dicts; a key that was not measured is absent and reads as NaN. JSON lines keep every bit of
a float. Parquet keeps every bit of the scalars; lists (matrices, row-major) become float32 there, which
halves the file. One rule settles what a kill leaves between two renames: if there is a `.jsonl`, it holds the
table, otherwise the `.parquet` does.
"""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mhc_repro.runs import files

SCHEMA_VERSION = 1  # raise it when a column changes its meaning or unit
KEYS = ("step", "layer")  # the integer columns

Row = dict[str, Any]


class Table:
    """The rows of one table of one run."""

    def __init__(self, folder: Path, name: str) -> None:
        self.jsonl = folder / f"{name}.jsonl"
        self.parquet = folder / f"{name}.parquet"

    def append(self, row: Row) -> None:
        """Add one row and hand it to the operating system; RuntimeError when the table is finished."""
        if self.parquet.exists():
            raise RuntimeError(f"{self.parquet} is finished; truncate(step) opens it again")
        if "step" not in row:
            raise ValueError(f"a row of {self.jsonl.name} needs its step: {row}")
        line = _line(row)
        # Opened for each row: a handle kept open would go on writing to a file that truncate has replaced.
        with open(self.jsonl, "a+b") as file:
            _drop_torn_line(file)
            file.write(line)

    def sync(self) -> None:
        """Wait until the rows so far are on the disk."""
        if self.jsonl.exists():
            with open(self.jsonl, "rb") as file:
                os.fsync(file.fileno())

    def truncate(self, step: int) -> None:
        """Keep the rows with row["step"] <= step, atomically; a finished table grows again from there."""
        rows = _parse(self.jsonl)
        if rows is None:
            finished = self._finished()
            if finished is None:
                return
            rows = [{k: v for k, v in row.items() if v is not None} for row in finished.to_pylist()]
        files.write_bytes(self.jsonl, b"".join(_line(row) for row in rows if row["step"] <= step))
        self.parquet.unlink(missing_ok=True)

    def read(self) -> pd.DataFrame:
        """Return all whole rows: keys as int64, scalars as float64, lists as float64 arrays."""
        rows = _parse(self.jsonl)
        if rows is None:
            finished = self._finished()
            if finished is not None:
                return _from_arrow(finished)
        return _from_arrow(_to_arrow(rows or [], pa.float64()))

    def check(self) -> None:
        """Raise UserError unless there are rows, or a Parquet file whose footer can be read."""
        try:
            if not self.jsonl.exists():
                pq.read_schema(self.parquet)
        except FileNotFoundError:
            raise files.broken(self.parquet, "no such file") from None
        except (OSError, pa.ArrowException):
            raise files.broken(self.parquet, "not a Parquet file") from None

    def finish(self, units: dict[str, str]) -> None:
        """Compact the rows to Parquet with their units in the metadata; equal rows give equal bytes."""
        rows = _parse(self.jsonl)
        if rows is None:
            return
        table = _to_arrow(rows, pa.float32())
        used = {name: units[name] for name in table.column_names if name in units}
        described = {"schema_version": str(SCHEMA_VERSION), "units": json.dumps(used)}
        with files.replacing(self.parquet) as temporary:
            _write(table.replace_schema_metadata(described), temporary)
        self.jsonl.unlink()

    def _finished(self) -> pa.Table | None:
        try:
            with pq.ParquetFile(self.parquet) as file:
                return file.read(use_threads=False)
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException):
            raise files.broken(self.parquet, "not a Parquet file") from None


def _line(row: Row) -> bytes:
    # tolist gives the Python value of a numpy or torch number or array, without naming either.
    return json.dumps(row, default=lambda value: value.tolist()).encode() + b"\n"


def _drop_torn_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _parse(path: Path) -> list[Row] | None:
    """Return the whole rows of a JSON lines file, None when there is no file."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # a kill can only tear what follows the last newline
    except FileNotFoundError:
        return None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            row["step"]
        except (ValueError, TypeError, KeyError):
            raise files.broken(f"{path}:{number}", "not a row") from None
        rows.append(row)
    return rows


def _to_arrow(rows: list[Row], item: pa.DataType) -> pa.Table:
    """Return the rows as columns in order of appearance, absent values as null, lists of `item`."""
    names = dict.fromkeys(["step", *(name for row in rows for name in row)])
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if name in KEYS:
            kind = pa.int64()
        elif any(isinstance(value, list) for value in values):
            kind = pa.list_(item)
            with np.errstate(over="ignore"):  # a diverged composite may pass float32's range: infinite there
                values = [None if v is None else np.asarray(v, item.to_pandas_dtype()) for v in values]
        else:
            kind = pa.float64()
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def _from_arrow(table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas()
    for field in table.schema:
        if pa.types.is_list(field.type):
            arrays = [None if value is None else np.asarray(value, np.float64) for value in frame[field.name]]
            frame[field.name] = pd.Series(arrays, index=frame.index, dtype=object)
    return frame


def _write(table: pa.Table, path: Path) -> None:
    # The bytes of a float compress better apart: signs and exponents repeat, low mantissas do not.
    encoding = {}
    for field in table.schema:
        is_list = pa.types.is_list(field.type)
        leaf = f"{field.name}.list.element" if is_list else field.name
        encoding[leaf] = "DELTA_BINARY_PACKED" if field.name in KEYS else "BYTE_STREAM_SPLIT"
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=9,
        use_dictionary=False,
        column_encoding=encoding,
        write_statistics=False,
    )
