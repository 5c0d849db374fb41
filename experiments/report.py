"""Pages, figures and every number on them, from the run directories alone.

python experiments/report.py                       everything under results/, and what is written by hand
python experiments/report.py --verify              would that change a byte? exit 1 and say where
python experiments/report.py --root results/local --study quick --no-readme --console
"""

import argparse
import sys

import beside  # noqa: F401
from mhc_repro.analysis import labels, report
from mhc_repro.analysis.tables import stability
from mhc_repro.command_line.entry import Faults, Parser, exit_code, tell
from mhc_repro.command_line.printing import console, fitted, shown
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import Studies, read_studies
from mhc_repro.paths import real
from mhc_repro.places import BENCH, LOCAL, RECORDED, results_root, runs_root


def main(arguments: list[str] | None = None) -> int:
    """Write or verify a report; return the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root",
        default=RECORDED,
        help=f"results root, in the checkout, or else from here (default: {RECORDED})",
    )
    parser.add_argument("--study", help="only the page and figures of this study, runs under way included")
    parser.add_argument("--no-readme", action="store_true", help="leave the hand-written pages alone")
    parser.add_argument("--console", action="store_true", help="print the tables, and where the figures are")
    parser.add_argument("--verify", action="store_true", help="compare with what is there, write nothing")
    return exit_code(lambda: _run(parser.parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    root = runs_root(options.root)
    home = real(root) == real(results_root(RECORDED))
    with_pages = home and not options.no_readme  # the pages speak of recorded runs, never of try-outs
    faults: Faults = {}
    if options.verify:
        if options.study or options.console:
            raise UserError("--verify compares a whole results root; give it without --study and --console")
        found = read_studies(root, onerror=faults.__setitem__)
        if faults:  # what is there was made with them
            return tell(faults)
        problem = report.compare(report.render(root, found, with_pages), root)
        print(f"verify: {problem or f'{shown(root)} and its report agree, byte for byte'}")
        return 1 if problem else 0
    try:
        found = read_studies(root, options.study, faults.__setitem__)
    finally:  # also of a study whose every run is damaged
        code = tell(faults)
    if not found and not (root / BENCH).is_dir():  # another folder's figures are not ours to replace
        raise UserError(
            f"--root {options.root}: no run in there has ended (--study shows what is under way); "
            f"make quick makes the first, in {LOCAL}"
        )
    if options.study:
        texts = report.render_studies(found, root)
        changed = report.write(texts, root)
    else:
        texts = report.render(root, found, with_pages)
        changed = report.write(texts, root) + report.prune(texts, root)
    if options.console:
        _print(found)
        print(*(shown(root / name) for name in texts if name.endswith((".svg", ".md"))), sep="\n")
    else:
        print(f"report: {len(texts)} files, {len(changed)} changed", *map(shown, changed), sep="\n  ")
    return code


def _print(found: Studies) -> None:
    printed = console(wide=120)
    for of_study in found.values():
        for table in stability.tables(of_study):
            printed.print(fitted(table.frame, printed.width, table.title))
            printed.print(table.caption, style="dim", end="\n\n")
        for each in of_study:
            setting = f"{each.study}: {labels.protocol(each)}; {labels.seeds_text(each)}"
            printed.print(setting, style="dim")


if __name__ == "__main__":
    sys.exit(main())
