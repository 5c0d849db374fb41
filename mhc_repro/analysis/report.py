"""Everything that is made from a results root: index, tables, figures, one HTML page, the README's numbers.

All of it is a function of the run directories and of the bench's records, so it can be made again and compared
byte for byte.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from matplotlib import __version__ as matplotlib_version

from mhc_repro.analysis import figures, labels, readme, theme
from mhc_repro.analysis.figures import depth, scaling
from mhc_repro.analysis.page import page
from mhc_repro.analysis.tables import arms, claims, differences, overhead, pairs, published, stability
from mhc_repro.bench.records import SCALING, newest
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import Studies
from mhc_repro.evidence.index import index_csv
from mhc_repro.runs import files
from mhc_repro.runs.reader import place

GENERATED = ("tables/*.md", "figures/*.svg")  # folders that hold nothing else
SHOWN = ("stability", "quick")  # the first of these studies that has runs fills the README
STRESS = "stress"  # ... but its pictures of gains are of this one, where gains leave 1
OF_GAINS = ("gain-by-layer", "mappings")
SEEDS = "seeds"  # ... and its intervals are of this one
README = "../README.md"  # as seen from the results root


def render(root: Path, found: Studies, with_readme: bool) -> dict[str, str]:
    """Make every file of the report of a whole results root, by its path as seen from there."""
    texts = {}
    if with_readme:
        try:
            text = (root / README).read_text(encoding="utf-8")
        except OSError:
            raise UserError(f"{root.parent}/README.md: cannot be read; --no-readme does without") from None
        texts[README] = readme.fill(text, parts(found, root))
    runs = [run for of_study in found.values() for each in of_study for run in each.runs]
    texts["index.csv"] = index_csv(sorted(runs, key=place))
    texts |= render_studies(found)
    for record in newest(root, SCALING)[:1]:
        texts[scaling.PATH] = theme.to_svg(scaling.scaling(record))
    texts["report.html"] = page(found, texts)
    return texts


def parts(found: Studies, root: Path) -> dict[str, str]:
    """Write every part of the README by its name."""
    stress, by_depth = found.get(STRESS, []), found.get(depth.STUDY, [])
    shown = next((found[study] for study in SHOWN if study in found), [])
    pictures = {
        name: figures.part(name, (stress if name in OF_GAINS else []) or shown, root.name) or labels.NO_RUNS
        for name, *_ in figures.FIGURES
    }
    pictures[depth.NAME] = figures.part(depth.NAME, by_depth, root.name) or depth.EMPTY
    costs = [scaling.part(root.name)] if newest(root, SCALING) else []
    return {
        "stability-table": stability.part(shown) if shown else labels.NO_RUNS,
        "stress-table": stability.brief(stress) if stress else labels.no_run(STRESS),
        "seeds-table": differences.part(found[SEEDS]) if SEEDS in found else labels.no_run(SEEDS),
        "claims-table": claims.part(found),
        "pairs-table": pairs.part(found),
        "arms-table": arms.part(found, root),
        "overhead-table": "\n\n".join([overhead.part(root), *costs]),
        "published-table": published.part(found),
        **{f"{name}-figure": text for name, text in pictures.items()},
    }


def render_studies(found: Studies) -> dict[str, str]:
    """Make the tables and figures of some studies."""
    texts = {}
    for study, comparisons in found.items():
        texts[f"tables/{study}-stability.md"] = f"{stability.part(comparisons)}\n"
        for each in figures.of_study(comparisons):
            texts[each.path] = theme.to_svg(each.draw(each.comparison))
    return texts


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
    """Remove the tables and figures of runs that are gone, and return them."""
    gone = stale(texts, root)
    for path in gone:
        path.unlink()
    return gone


def stale(texts: Mapping[str, str], root: Path) -> list[Path]:
    """List the tables and figures that a whole report does not make."""
    there = sorted(path for pattern in GENERATED for path in root.glob(pattern))
    return [path for path in there if path.relative_to(root).as_posix() not in texts]


def compare(texts: Mapping[str, str], root: Path) -> str | None:
    """Compare a report with the files that are there; after a difference its temporary copy is kept to look at."""
    folder = Path(tempfile.mkdtemp(prefix="mhc-report-"))
    write(texts, folder / root.name)
    for name in texts:
        shown = Path(os.path.normpath(f"{root.name}/{name}")).as_posix()
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
