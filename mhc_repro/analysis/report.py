"""Everything that is made from a results root: index, pages, figures, and what the hand-written pages show of it.

All of it is a function of the run directories and of the bench's records, so it can be made again and compared
byte for byte.
"""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import groupby, zip_longest
from pathlib import Path

from matplotlib import __version__ as matplotlib_version

from mhc_repro.analysis import figures, front, markers, parts, prose, study, theme
from mhc_repro.analysis.figures import front as front_figure
from mhc_repro.analysis.figures import scaling
from mhc_repro.bench.records import SCALING, newest
from mhc_repro.cores import cores
from mhc_repro.evidence.chosen import chosen
from mhc_repro.evidence.comparison import Comparison, Studies
from mhc_repro.evidence.index import index_csv
from mhc_repro.evidence.published import paper_gains
from mhc_repro.places import FIGURES
from mhc_repro.runs import files
from mhc_repro.runs.reader import order

GENERATED = (f"{FIGURES}/*.svg", "*/README.md")  # that hold nothing else, but for PAGES
README = "../README.md"  # as seen from the results root
PAGES = (
    README,
    "FINDINGS.md",
    "CLAIMS.md",
    "README.md",
    "bench/README.md",
    "../conf/connection/README.md",
    "../docs/agreement.md",
    "../docs/your-model.md",
)  # written by hand
FEW = 8  # settings whose figures one process draws as fast
_LOTS: list[list[figures.Figure]] = []  # of a process that draws


def render(root: Path, found: Studies, with_pages: bool) -> dict[str, str]:
    """Make every file of the report of a whole results root, by its path as seen from there."""
    shown = front.settings(found)
    with _drawn(found) as pictures:
        texts = _by_hand(root, found, shown) if with_pages else {}
        runs = [run for of_study in found.values() for each in of_study for run in each.runs]
        texts["index.csv"] = index_csv(sorted(runs, key=order))
        texts |= _pages(found, root) | _pictures(shown)
        for of_setting in pictures:
            texts |= of_setting
    for record in newest(root, SCALING)[:1]:
        texts[scaling.PATH] = theme.to_svg(scaling.scaling(record))
    return texts


def _by_hand(root: Path, found: Studies, shown: list[Comparison]) -> dict[str, str]:
    texts = {}
    for page in PAGES:
        if not (root / page).is_file():
            continue
        text = (root / page).read_text(encoding="utf-8")
        write_part = partial(parts.part, studies=found, shown=shown, root=root, folder=_folder(root, page))
        write_number = partial(prose.number, studies=found, front=shown, root=root)
        texts[page] = markers.fill(_named(root, page), text, write_part, write_number)
    return texts


def render_studies(found: Studies, root: Path) -> dict[str, str]:
    """Make the pages and figures of some studies."""
    texts = _pages(found, root)
    with _drawn(found) as pictures:
        for of_setting in pictures:
            texts |= of_setting
    return texts


def _pages(found: Studies, root: Path) -> dict[str, str]:
    home = "../../" if (root.parent / "conf").is_dir() else ""
    return {study.path(name): study.page(name, comparisons, home) for name, comparisons in found.items()}


@contextmanager
def _drawn(found: Studies) -> Iterator[Iterator[dict[str, str]]]:
    """Draw on all cores while the caller goes on; a process draws all of a setting, whose runs it reads once."""
    wanted = [each for comparisons in found.values() for each in figures.of_study(comparisons)]
    lots = [[*of_setting] for _, of_setting in groupby(wanted, lambda each: each.comparison.name)]
    if len(lots) < FEW or "fork" not in multiprocessing.get_all_start_methods():
        yield map(_svgs, lots)
        return
    # Forked, so that what has been read is not read again.
    with multiprocessing.get_context("fork").Pool(cores(), _LOTS.extend, (lots,)) as pool:
        yield pool.imap(_of_lot, range(len(lots)))


def _of_lot(index: int) -> dict[str, str]:
    return _svgs(_LOTS[index])


def _svgs(wanted: list[figures.Figure]) -> dict[str, str]:
    return {each.path: theme.to_svg(each.draw(each.comparison)) for each in wanted}


def _pictures(shown: list[Comparison]) -> dict[str, str]:
    if not shown:
        return {}
    gains = paper_gains()
    arms = chosen().arms
    given = (
        [(front.label(each), each) for each in shown],
        arms,
        {arm: gains[arm] for arm in arms if arm in gains},
    )
    return {
        front.PICTURE: theme.to_svg(front_figure.picture(*given)),
        front.HALF: theme.to_svg(front_figure.half(*given)),
    }


def _named(root: Path, page: str) -> str:
    return Path(os.path.normpath(f"{root.name}/{page}")).as_posix()


def _folder(root: Path, page: str) -> str:
    """Lead from a page to the results root, as a link there does."""
    path = os.path.relpath(root.name, Path(_named(root, page)).parent)
    return "" if path == "." else f"{path}/"


def write(texts: Mapping[str, str], root: Path) -> list[Path]:
    """Write a report's files, each whole or not at all, and return those that changed."""
    changed = []
    for name, text in texts.items():
        path, content = root / name, text.encode()
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, content)
            changed.append(path)
    return changed


def prune(texts: Mapping[str, str], root: Path) -> list[Path]:
    """Remove the pages and figures of runs that are gone, and return them."""
    gone = stale(texts, root)
    for path in gone:
        path.unlink()
    return gone


def stale(texts: Mapping[str, str], root: Path) -> list[Path]:
    """List the pages and figures that a whole report does not make."""
    there = sorted(path for pattern in GENERATED for path in root.glob(pattern))
    return [path for path in there if path.relative_to(root).as_posix() not in {*texts, *PAGES}]


def compare(texts: Mapping[str, str], root: Path) -> str | None:
    """Compare a report with the files that are there; after a difference its temporary copy is kept to look at."""
    folder = Path(tempfile.mkdtemp(prefix="mhc-report-"))
    write(texts, folder / root.name)
    for name in texts:
        shown = _named(root, name)
        if not (root / name).exists():
            shutil.rmtree(folder)
            return f"{shown} is missing; write it with make report"
        problem = difference((root / name).read_bytes(), (folder / root.name / name).read_bytes())
        if problem:
            hint = "" if shown.endswith((".md", ".csv")) else f" (drawn by matplotlib {matplotlib_version})"
            return f"{shown} {problem}{hint}; the whole report as made now is in {folder}"
    shutil.rmtree(folder)
    left = stale(texts, root)
    return f"{left[0].relative_to(root.parent)} comes from no run; make report removes it" if left else None


def difference(old: bytes, new: bytes, width: int = 40) -> str | None:
    """Name the first line that differs, with a piece of both around the first difference in it."""
    if old == new:
        return None
    lines = zip_longest(old.decode(errors="replace").split("\n"), new.decode(errors="replace").split("\n"))
    number, (was, now) = next((at, pair) for at, pair in enumerate(lines, start=1) if pair[0] != pair[1])
    if was is None or now is None:
        return f"line {number}: {'ends' if was is None else 'goes on'} where the report made now does not"
    at = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), min(len(was), len(now)))
    piece = slice(max(at - width // 2, 0), at + width // 2)
    return f"line {number}: has {was[piece]!r} where the runs give {now[piece]!r}"
