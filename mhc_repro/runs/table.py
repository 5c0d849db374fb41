"""A table that a kill cannot spoil: JSON lines while it grows, Parquet when it is done.

Rows are plain dicts; a key that was not measured is absent and reads as NaN. JSON lines keep every bit of
a float. Parquet keeps every bit of the scalars; lists (matrices, row-major) become float32 there, which
halves the file. One rule settles what a kill leaves between two renames: if there is a `.jsonl`, it holds the
table, otherwise the `.parquet` does. A changed bit is noticed in either: each line has its CRC-32, and the run's
manifest the sha256 of each finished table.
"""

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mhc_repro import reading
from mhc_repro.runs import files
from mhc_repro.schema import BY_SOURCE, KEYS, UNITS, Row, is_map
from mhc_repro.words import one_line

SCHEMA_VERSION = 1  # raise it when a column changes its meaning or unit
CHECK = "crc32"  # of a line of the growing table, and last in it


class Table:
    """The rows of one table of one run; `sha256` of the finished table, if it is to be that and no other."""

    def __init__(self, folder: Path, name: str, sha256: str | None = None) -> None:
        self.name, self.sha256 = name, sha256
        self.jsonl = folder / f"{name}.jsonl"
        self.parquet = folder / f"{name}.parquet"

    def append(self, *rows: Row) -> None:
        """Add rows and hand them to the operating system; RuntimeError when the table is finished."""
        if self.parquet.exists():
            raise RuntimeError(f"{self.parquet} is finished; truncate(step) opens it again")
        for row in rows:
            if "step" not in row:
                raise ValueError(f"a row of {self.jsonl.name} needs its step: {row}")
        lines = b"".join(map(_line, rows))
        # Opened each time: a handle kept open would go on writing to a file that truncate has replaced.
        with open(self.jsonl, "a+b") as file:
            _drop_torn_line(file)
            file.write(lines)

    def sync(self) -> int:
        """Wait until the rows so far are on the disk; return how many there are."""
        if not self.jsonl.exists():
            return 0
        with open(self.jsonl, "rb") as file:
            os.fsync(file.fileno())
            return sum(1 for _ in file)

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
        """Return all whole rows: keys as int64, scalars as float64, lists as float64 arrays; or UserError."""
        rows = None if self.sha256 else _parse(self.jsonl)
        if rows is None:
            finished = self._finished()
            if finished is not None:
                return _from_arrow(_fit(finished, self.parquet))
        try:
            return _from_arrow(_fit(_to_arrow(rows or [], pa.float64()), self.jsonl))
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise files.broken(self.jsonl, one_line(error)) from None

    def check(self) -> None:
        """Raise UserError unless it is the finished table of its sha256, or without one can be read."""
        if not self.sha256:
            self.read()
        elif self._content() is None:
            raise files.broken(self.parquet, "no such file")

    def checksum(self) -> str:
        """Return the sha256 of the finished table."""
        return hashlib.sha256(reading.read(self.parquet)).hexdigest()

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
        content = self._content()
        if content is None:
            return None
        try:
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                return file.read(use_threads=False)
        except (OSError, pa.ArrowException, ValueError, TypeError, LookupError):
            raise files.broken(self.parquet, "not a Parquet file") from None

    def _content(self) -> bytes | None:
        try:
            content = reading.read(self.parquet)
        except FileNotFoundError:
            return None
        except reading.Unfit as unfit:
            raise files.broken(self.parquet, str(unfit)) from None
        if self.sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise files.broken(self.parquet, "changed since it was written (the manifest has its sha256)")
        return content


def _line(row: Row) -> bytes:
    # tolist gives the Python value of a numpy or torch number or array, without naming either.
    whole = json.dumps(row, default=lambda value: value.tolist()).encode()
    return b'%s, "%s": %d}\n' % (whole[:-1], CHECK.encode(), zlib.crc32(whole))


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
        lines = reading.read(path).split(b"\n")[:-1]  # a kill can only tear what follows the last newline
    except FileNotFoundError:
        return None
    except reading.Unfit as unfit:
        raise files.broken(path, str(unfit)) from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if row.pop(CHECK) != zlib.crc32(line.rpartition(b', "%s": ' % CHECK.encode())[0] + b"}"):
                raise ValueError
            if type(row["step"]) is not int:
                raise TypeError
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
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


def _fit(table: pa.Table, path: Path) -> pa.Table:
    """Return the table; UserError where a column that this version knows is not what it should be."""
    known = UNITS.get(path.stem, KEYS[:1])
    for key in KEYS:
        if key in known and key not in table.column_names and table.num_rows:
            raise files.broken(path, f"{key}: no such column")
    for field in table.schema:
        column, kind = table[field.name], field.type
        if field.name in KEYS:
            expected, holds = "whole numbers", pa.types.is_integer(kind) and not column.null_count
        elif field.name in BY_SOURCE or is_map(field.name):
            expected = "lists of numbers"
            holds = pa.types.is_list(kind) and pa.types.is_floating(kind.value_type) and not column.null_count
            if holds and is_map(field.name):
                expected, holds = "maps of one size", len(pc.unique(pc.list_value_length(column))) <= 1
        else:
            expected, holds = "numbers", pa.types.is_floating(kind)
        if not holds and field.name in known:
            raise files.broken(path, f"{field.name}: expected {expected}, got {kind}")
    return table


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
