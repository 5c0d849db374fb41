"""Whatever happens to a run's files, it is read as it was written, or told in one line and left out."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from damage import GONE, NEW, NO_FILES, NO_VALUES, READ, as_json, as_sealed, as_yaml, flip, mutants
from made_runs import make_run
from mhc_repro.errors import UserError
from mhc_repro.places import checkout
from mhc_repro.runs import Run, RunDirectory, files, read_run, read_runs
from mhc_repro.runs.directory import ENDED
from mhc_repro.runs.table import _line
from mhc_repro.schema import UNITS

FLIPS = 12
RECORDED = checkout() / "results"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return make_run(tmp_path / "results", "mhc", steps=20, blocks=1)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    return make_run(tmp_path / "results", "mhc", steps=40, blocks=1, every=5, stops=20)


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """All columns that an analysis knows, matrices as text, of every bit."""
    read = {name: run.table(name).read() for name in UNITS}
    return {
        name: frame[[each for each in frame if each in UNITS[name]]].map(
            lambda value: value.tobytes().hex() if isinstance(value, np.ndarray) else value
        )
        for name, frame in read.items()
    }


def documents(run: Run) -> dict[str, Any]:
    return {"config": run.config, "manifest": run.manifest, "status": run.status, "state": run.state}


def found(path: Path) -> Run | str:
    """Return a run that is read, or the one line that it is told in."""
    try:
        return read_run(path)
    except UserError as error:
        line = str(error)
        assert "\n" not in line
        assert len(line) < 600
        return line


def told(path: Path) -> str:
    """Return the one line that a run is told in, nothing where it is read."""
    return line if isinstance(line := found(path), str) else ""


def believed(path: Path, whole: Run) -> bool | None:
    """Say whether a run is read as anything else than it was, None where it is told; its last row may be torn."""
    if isinstance(run := found(path), str):
        return None
    if documents(run) != documents(whole):
        return True
    torn = None if run.state in ENDED else -1
    return not all(
        frame.equals(before) or frame.equals(before.iloc[:torn])
        for frame, before in zip(tables(run).values(), tables(whole).values(), strict=True)
    )


def flips_believed(path: Path) -> tuple[list[str], set[str]]:
    """Flip FLIPS bits of each file, one at a time; name the files in which one was believed, and in which told."""
    chance, whole = random.Random(0), read_run(path)
    ends = []
    for file in sorted(file for file in path.iterdir() if file.name != ".lock" and file.stat().st_size):
        for bit in chance.sample(range(8 * file.stat().st_size), FLIPS):
            flip(file, bit)
            ends.append((file.name, believed(path, whole)))
            flip(file, bit)
    assert believed(path, whole) is False
    return [name for name, wrong in ends if wrong], {name for name, wrong in ends if wrong is None}


def test_no_flipped_bit_of_a_recorded_run_is_believed(tmp_path: Path) -> None:
    recorded = min(RECORDED.glob("*/*/metrics.parquet"), key=lambda file: file.stat().st_size).parent
    shutil.copytree(recorded, path := tmp_path / "results" / recorded.parent.name / recorded.name)
    wrong, told = flips_believed(path)
    assert wrong == []
    assert told >= {*READ, *(each.name for each in path.glob("*.parquet"))}  # the log alone may change


@pytest.mark.parametrize("name", ["status.json", "manifest.json"])
def test_the_seals_own_name_is_no_way_around_it(finished: Path, name: str) -> None:
    content = (finished / name).read_bytes()
    start = content.rindex(b'"sha256"')
    for bit in range(8 * start, 8 * (start + len('"sha256"'))):
        flip(finished / name, bit)
        assert name in told(finished), bit
        (finished / name).write_bytes(content)


def test_no_flipped_bit_of_a_run_that_grows_is_believed(interrupted: Path) -> None:
    wrong, told = flips_believed(interrupted)
    assert wrong == []
    assert told >= {*READ, *(each.name for each in interrupted.glob("*.jsonl"))}


def test_every_recorded_run_is_as_it_was_written() -> None:
    faults: dict[Path, UserError] = {}
    assert read_runs(RECORDED, onerror=faults.__setitem__)
    assert not faults


@pytest.mark.parametrize("name", READ)
def test_no_change_of_a_document_is_believed(finished: Path, name: str) -> None:
    """One value of another type, gone, or new: none is read as what it is not."""
    write = as_yaml if name == "config.yaml" else as_json
    whole, file = read_run(finished), finished / name
    for what, mutant in mutants(READ[name](file.read_bytes()), 120):
        file.write_bytes(write(mutant))
        assert not believed(finished, whole), what


@pytest.mark.parametrize("name", ["status.json", "manifest.json"])
def test_a_document_that_vouches_for_itself_is_read_if_it_fits(finished: Path, name: str) -> None:
    """Told is the file and the field."""
    file = finished / name
    document = json.loads(file.read_bytes())
    del document[files.SEAL]
    tables = {key: document.pop(key) for key in ("tables",) if key in document}
    key = {"status.json": "step", "manifest.json": "protocol_version"}[name]
    wrong, gone, new = (f"{key} = {each!r}" for each in ("x", GONE, NEW))
    some = {what: mutant for what, mutant in mutants(document) if what in (wrong, gone, new)}
    lines = {}
    for what, mutant in (some | dict(mutants(document, 200))).items():
        file.write_bytes(as_sealed(mutant | tables))
        lines[what] = told(finished)
        assert not lines[what] or str(file) in lines[what]
    assert f"{file}: {key}: expected int, got str;" in lines[wrong]
    assert f"{file}: lacks {key};" in lines[gone]
    assert not lines[new]


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("status.json", "sha256", "changed since it was written"),
        ("manifest.json", "sha256", "changed since it was written"),
        ("manifest.json", "tables", "lacks tables"),
    ],
)
def test_a_run_that_vouches_for_nothing_is_damaged(finished: Path, name: str, key: str, said: str) -> None:
    document = json.loads((finished / name).read_bytes())
    del document[key]
    if key != files.SEAL:
        del document[files.SEAL]
    (finished / name).write_bytes((as_json if key == files.SEAL else as_sealed)(document))
    assert f"{name}: {said}" in told(finished)


@pytest.mark.parametrize("name", [*READ, "metrics.parquet", "gains.parquet", "tokens.parquet"])
def test_what_is_no_document_is_told_in_a_line(finished: Path, name: str) -> None:
    file = finished / name
    original = file.read_bytes()
    for junk in (*NO_VALUES, original[:-1], original + b"x"):
        if junk.rstrip() != original.rstrip():
            file.write_bytes(junk)
            line = told(finished)
            assert line
            assert name in line or (name, junk[:-1]) == ("config.yaml", original), junk[:20]
    for spoil in NO_FILES.values():
        file.write_bytes(original)
        spoil(file)
        assert name in told(finished), spoil
        shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()


def test_rows_of_other_types_are_told_with_their_place(interrupted: Path) -> None:
    """Rows whose checks are right; the last one says what the column should hold."""
    metrics = interrupted / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_bytes().splitlines()]
    for row in rows:
        del row["crc32"]
    for change, fault in {
        "step": ("x", "metrics.jsonl:8: not a row"),
        "loss/train": ("x", "metrics.jsonl: "),
        "lr": ([1.0], "metrics.jsonl: "),
        "grad/norm": ({"a": 1}, "metrics.jsonl: "),
        "time/step": (10**400, "metrics.jsonl: "),
    }.items():
        changed = [dict(row) for row in rows]
        changed[7][change] = fault[0]
        metrics.write_bytes(b"".join(map(_line, changed)))
        assert fault[1] in told(interrupted), change
    metrics.write_bytes(b"".join(map(_line, rows)))
    assert not told(interrupted)


def test_a_run_that_grows_is_not_held_to_checksums_of_before(finished: Path) -> None:
    """A kill between them and the status, or a resumed run whose manifest still has them."""
    run = RunDirectory(finished)
    run.write_status(status="running")
    run.table("metrics").truncate(10)
    run.table("metrics").append({"step": 11, "loss/train": 1.0})
    grown = read_run(finished)
    assert grown.state == "interrupted"
    assert grown.metrics["step"].iloc[-1] == 11
