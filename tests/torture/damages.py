"""Damaged files: whoever reads a run, or goes on with it, says so or is right."""

import io
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import report
from damage import NO_VALUES, as_sealed, as_yaml, flip, mutants
from faults import Fault
from mhc_repro import reading
from mhc_repro.analysis import figures
from mhc_repro.command_line import cli
from mhc_repro.command_line.entry import MISTAKE
from mhc_repro.runs import files
from outcomes import HELD, TOLD, TRACEBACK, WRONG, Ending, Task, shares
from victims import HANGS, Victim

EACH = 20  # tries of one task
DOCUMENTS = {
    "status.json": (reading.from_json, as_sealed),
    "manifest.json": (reading.from_json, as_sealed),
    "config.yaml": (reading.from_yaml, as_yaml),
}
Said = dict[str, tuple[int, str, str]]  # exit code, output and complaints of each command


class Library(NamedTuple):
    """A results root with a run of each kind, and what the commands say of them."""

    root: Path
    runs: list[Path]
    said: dict[Path, Said]


def tasks(
    folder: Path, wholes: dict[str, Victim], goals: Mapping[str, int], draw: random.Random
) -> list[Task]:
    """Plan flipped bits in what is read and in what is gone on from, and wrong documents."""
    parts = {"flipped bits": flips, "flipped bits resumed": resumed, "documents": documents}
    return [
        Task(part, tries, (folder, wholes, draw.random(), share))
        for part, tries in parts.items()
        for share in shares(goals[part], EACH)
    ]


def flips(folder: Path, wholes: dict[str, Victim], seed: float, count: int) -> Iterator[Ending]:
    """Flip bits in any file of a run, one at a time, and read it by every command."""
    draw, library = random.Random(seed), _library(folder, wholes)
    for _ in range(count):
        run = draw.choice(library.runs)
        bit = _flip(draw, [each for each in run.iterdir() if each.name != ".lock"])
        yield _judged(library, run, bit, strict=True)


def documents(folder: Path, wholes: dict[str, Victim], seed: float, count: int) -> Iterator[Ending]:
    """Put documents of another content in the place of a run's: what fits is believed, what does not is told."""
    draw, library = random.Random(seed), _library(folder, wholes)
    for _ in range(count):
        run, name = draw.choice(library.runs), draw.choice(list(DOCUMENTS))
        read, write = DOCUMENTS[name]
        document = read((run / name).read_bytes())
        document.pop(files.SEAL, None)
        what, text = draw.choice([(str(each), each) for each in NO_VALUES])
        if draw.random() < 0.8:
            what, mutant = draw.choice(list(mutants(document)))
            text = write(mutant)
        (run / name).write_bytes(text)
        yield _judged(library, run, f"{name}: {what}", strict=False)


def resumed(folder: Path, wholes: dict[str, Victim], seed: float, count: int) -> Iterator[Ending]:
    """Flip bits in a run that was killed, most of them in its checkpoints, and go on with it."""
    draw, whole = random.Random(seed), wholes["mhc"]
    victim = Victim(folder / f"resumed-{os.getpid()}", whole.name)
    while not list(victim.cache.glob("checkpoints/*/step-*.pt")):
        victim.train(Fault("kill", draw.randrange(whole.passed // 2, whole.passed * 3 // 4)))
    shutil.copytree(
        victim.folder, before := victim.folder.with_name(f"before-{os.getpid()}"), dirs_exist_ok=True
    )
    for _ in range(count):
        checkpoints = list(victim.cache.glob("checkpoints/*/step-*.pt"))
        others = [each for each in victim.run.path.iterdir() if each.name != ".lock"]
        bit = _flip(draw, checkpoints if draw.random() < 0.7 else others)
        code = victim.train()
        errors = [line for line in victim.lines() if line.startswith("error: ")]
        if "Traceback" in victim.said.read_text():
            yield Ending(TRACEBACK, f"{bit}: {victim.lines()}")
        elif code == MISTAKE and len(errors) == 1:
            yield Ending(TOLD)
        else:
            why = victim.differs(whole)
            yield Ending(WRONG, f"{bit}: {why}, {victim.lines()}") if why else Ending(HELD)
        shutil.rmtree(victim.folder)
        shutil.copytree(before, victim.folder)
    shutil.rmtree(before)


def _flip(draw: random.Random, among: Sequence[Path]) -> str:
    file = draw.choice(sorted(among))
    # without the last newline a row is one that a kill tore, and dropped as such
    bit = draw.randrange(8 * (file.stat().st_size - (file.suffix == ".jsonl")))
    flip(file, bit)
    return f"bit {bit} of {file}"


def _library(folder: Path, wholes: dict[str, Victim]) -> Library:
    figures.of_study = lambda comparisons: []  # seconds a report, most of them the fonts'
    root = folder / f"library-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    stopped = Victim(folder / f"stopped-{os.getpid()}", "mhc again")
    while not list(stopped.cache.glob("checkpoints/*/step-*.pt")):
        stopped.train(Fault("kill", wholes["mhc"].passed // 2))
    for victim in (wholes["mhc"], wholes["baseline"], wholes["diverges"], stopped):
        shutil.copytree(victim.run.path, root / victim.run.path.parent.name / victim.run.path.name)
    runs = sorted(root.glob("*/*"))
    _call(report.main, "--root", str(root), "--no-readme")
    library = Library(root, runs, {})
    for run in runs:
        library.said[run] = _read(library, run)
    shutil.copytree(root, _spare(library), dirs_exist_ok=True)
    return library


def _spare(library: Library) -> Path:
    return library.root.with_name(f"{library.root.name}-spare")


def _read(library: Library, run: Path) -> Said:
    other = next(each for each in library.runs if each != run)
    root = ["--root", str(library.root)]
    return {
        "ls": _call(cli.main, "ls", *root),
        "show": _call(cli.main, "show", run.name, *root),
        "compare": _call(cli.main, "compare", run.name, other.name, *root),
        "report": _call(report.main, *root, "--no-readme"),
        "verify": _call(report.main, *root, "--verify"),
    }


def _call(main: Callable[[list[str]], int], *argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(argv))
    return code, out.getvalue(), err.getvalue()


def _judged(library: Library, run: Path, what: str, strict: bool) -> Ending:
    """Read a damaged run by every command, and restore it; `strict`: nothing new may be believed."""
    signal.alarm(HANGS)
    try:
        said = _read(library, run)
    except Exception as error:
        return Ending(TRACEBACK, f"{what}: {error!r}")
    finally:
        signal.alarm(0)
        shutil.rmtree(library.root)
        shutil.copytree(_spare(library), library.root)
    told = False
    for command, (code, out, err) in said.items():
        if (code, out, err) == library.said[run][command]:
            continue
        lines = err.splitlines()
        if code and len(lines) == 1 and (run.name in lines[0]) and len(lines[0]) < 600:
            told = True
        elif strict or code or err:
            return Ending(WRONG, f"{what}: {command}: exit {code}, {lines or out}")
    return Ending(TOLD if told else HELD)
