"""A damaged run costs one line and an exit code, in every command that reads runs; never the other runs."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import report
from damage import NO_FILES, NO_VALUES, READ, as_sealed, as_yaml, mutants
from made_runs import make_run
from mhc_repro import arm_files
from mhc_repro.analysis import figures, front, parts
from mhc_repro.command_line import cli
from mhc_repro.errors import UserError
from mhc_repro.evidence import chosen, claims, kept, published
from mhc_repro.evidence.comparison import read_studies
from mhc_repro.places import checkout
from mhc_repro.runs import files, read_run

Said = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds a report, most of which are the fonts'."""
    monkeypatch.setattr(figures, "of_study", lambda comparisons: [])


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Call a command's main; return its exit code, the lines of its complaints, and its output."""

    def call(main: Callable[[list[str]], int], *argv: str) -> tuple[int, list[str], str]:
        capsys.readouterr()
        code = main(list(argv))
        shown = capsys.readouterr()
        return code, shown.err.splitlines(), shown.out

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for arm in ("baseline", "mhc"):
        make_run(tmp_path / "results", arm, steps=20, blocks=1)
    return tmp_path / "results"


def assert_told(said: Said, root: Path, other: Path, damaged: Path) -> None:
    """Every command names the damaged run in its one line, and shows the other."""
    code, errors, out = said(cli.main, "ls", "--root", str(root))
    assert (code, len(errors)) == (1, 1), errors
    assert errors[0].startswith("skipped ")
    assert damaged.name in errors[0]
    assert other.name in out
    assert damaged.name not in out
    for argv in (["show", damaged.name], ["compare", other.name, damaged.name]):
        code, errors, _ = said(cli.main, *argv, "--root", str(root))
        assert (code, len(errors)) == (2, 1), errors
        assert damaged.name in errors[0]
    code, errors, out = said(cli.main, "show", other.name, "--root", str(root))
    assert (code, len(errors)) == (1, 1), errors
    assert "bpc" in out


def assert_reported_without(said: Said, root: Path, other: Path, damaged: Path) -> None:
    code, errors, _ = said(report.main, "--root", str(root), "--no-readme")
    assert (code, len(errors)) == (1, 1), errors
    assert damaged.name in errors[0]
    index = (root / "index.csv").read_text()
    assert other.name in index
    assert damaged.name not in index


def unsealed(path: Path, name: str) -> Any:
    document = READ[name](path.read_bytes())
    document.pop(files.SEAL, None)
    return document


@pytest.mark.parametrize("name", READ)
def test_a_document_that_does_not_fit_costs_a_line(name, root, said, undrawn):
    other, damaged = sorted((root / "fixture").iterdir())
    file = damaged / name
    write = as_yaml if name.endswith("yaml") else as_sealed
    tried = []
    for _, mutant in mutants(unsealed(file, name), 14):
        file.write_bytes(write(mutant))
        try:
            read_run(damaged)
        except UserError:
            assert_told(said, root, other, damaged)
            tried.append(mutant)
    assert len(tried) > 5
    file.write_bytes(write(tried[0]))
    assert_reported_without(said, root, other, damaged)


@pytest.mark.parametrize("name", [*READ, "metrics.parquet"])
def test_what_is_no_file_costs_a_line(name, root, said):
    other, damaged = sorted((root / "fixture").iterdir())
    file = damaged / name
    original = file.read_bytes()
    for spoil in NO_FILES.values():
        spoil(file)
        assert_told(said, root, other, damaged)
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        file.write_bytes(original)


def test_what_fits_although_nobody_wrote_it_is_shown(tmp_path, said, undrawn):
    """Any value of the right type, in a document that vouches for itself, is believed, and no command minds it."""
    root = tmp_path / "results"
    baseline, arm = (make_run(root, each, steps=20, blocks=1) for each in ("baseline", "mhc"))
    for name in ("status.json", "manifest.json"):
        for _, mutant in mutants(unsealed(arm / name, name), 50):
            copy = root / f"study{len(list(root.iterdir()))}" / arm.name
            shutil.copytree(arm, copy)
            (copy / name).write_bytes(as_sealed(mutant))
            try:
                read_run(copy)
            except UserError:
                shutil.rmtree(copy.parent)
                continue
    shutil.copytree(baseline, root / "study2" / baseline.name)
    copies = sorted(root.glob(f"study*/{arm.name}"))
    assert len(copies) > 12
    compared = [["compare", str(arm), str(copy)] for copy in copies[:4]]
    for argv in (["ls"], ["show", str(copies[0])], *compared):
        code, errors, _ = said(cli.main, *argv, "--root", str(root))
        assert (code, errors) == (0, [])
    code, errors, _ = said(report.main, "--root", str(root), "--no-readme")
    assert (code, errors) == (0, [])


@pytest.mark.parametrize("deep", range(3))
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(deep, root, said, monkeypatch):
    run = sorted((root / "fixture").iterdir())[0]
    closed = (root, run.parent, run)[deep]
    listdir = os.listdir

    def look(folder: Path) -> list[str]:
        if Path(folder) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", look)
    code, errors, out = said(cli.main, "ls", "--root", str(root))
    assert (code, errors) == (
        1,
        [f"skipped {closed}: Permission denied; make it readable, or move it elsewhere"],
    )
    assert bool(out) == (deep == 2)


def test_a_study_whose_every_run_is_damaged_is_not_said_to_be_none(root, said):
    """Nor are the other studies' faults told, which were not asked for."""
    other, damaged = sorted((root / "fixture").iterdir())
    for run, study in ((other, "other"), (damaged, "mine")):
        (root / study).mkdir()
        run.rename(root / study / run.name)
        (root / study / run.name / "status.json").write_bytes(b"{")
    code, errors, out = said(report.main, "--root", str(root), "--no-readme", "--study", "mine")
    assert (code, len(errors), out) == (2, 2, "")
    assert errors[0].startswith(f"skipped {root / 'mine' / damaged.name}/status.json: ")
    assert errors[1] == f"error: --study mine: no run under {root} that can be read; studies there: none yet"


def test_verify_tells_a_damaged_run_and_compares_nothing(root, said):
    _, damaged = sorted((root / "fixture").iterdir())
    (damaged / "gains.parquet").write_bytes(b"PAR1")
    code, errors, out = said(report.main, "--root", str(root), "--verify")
    assert (code, len(errors), out) == (1, 1, "")
    assert f"{damaged}/gains.parquet: changed since it was written" in errors[0]


ARM = Path("conf/connection/mhc.yaml")
KEPT: dict[Path, tuple[Callable[[], Any], Callable[[bytes], Any]]] = {
    ARM: (arm_files.abouts, yaml.safe_load),
    claims.FILE: (claims.load, yaml.safe_load),
    published.FILE: (published.load, lambda text: yaml.load(text, yaml.BaseLoader)),
    chosen.FILE: (chosen.chosen, yaml.safe_load),
}


@pytest.mark.parametrize("file", KEPT, ids=str)
def test_what_is_kept_by_hand_costs_a_line(file, root, tmp_path, monkeypatch, request):
    """It is understood, and then the report can do with it, or it is told with the file's name."""
    studies = read_studies(root)
    (tmp_path / "experiments").mkdir()
    shutil.copytree(checkout() / ARM.parent, tmp_path / ARM.parent)
    for each in KEPT:
        shutil.copy(checkout() / each, tmp_path / each)
    monkeypatch.setattr(kept, "checkout", lambda: tmp_path)
    monkeypatch.setattr(arm_files, "folder", lambda: tmp_path / ARM.parent)
    load, read = KEPT[file]
    forget: Callable[[], None] = getattr(load, "cache_clear", lambda: None)
    request.addfinalizer(forget)
    path = tmp_path / file
    original = path.read_bytes()
    texts = [as_yaml(mutant) for _, mutant in mutants(read(original), 40)]
    understood: list[bytes] = []
    lines: list[str] = []
    for text in (*texts, *NO_VALUES, b"&a [*a]", b"a: " * 5000, b"- " * 5000, b"!!int ''", b"!!timestamp x"):
        path.write_bytes(text)
        forget()
        try:
            load()
            for name in ("settings", "claims", "claims-in-short", "arms-by-family", "published"):
                parts.part(name, {}, studies, front.settings(studies), root, "")
            understood.append(text)
        except UserError as error:
            lines.append(str(error))
    assert all(line.startswith(f"{file}: ") and "\n" not in line for line in lines), lines
    assert 0 < len(understood) < 40
    for spoil in NO_FILES.values():
        path.unlink() if os.path.lexists(path) and not path.is_dir() else None
        shutil.rmtree(path, ignore_errors=True)
        path.write_bytes(original)
        spoil(path)
        forget()
        with pytest.raises(UserError, match=f"^{file}: "):
            load()
