"""Runs as a table of the terminal's: all of them, or those that did not finish."""

import argparse
import sys
from collections.abc import Sequence

from rich.table import Table

from mhc_repro import places
from mhc_repro.analysis.tables import cells
from mhc_repro.command_line import inspection
from mhc_repro.command_line.entry import Faults, tell
from mhc_repro.command_line.printing import console, shown, table
from mhc_repro.errors import UserError
from mhc_repro.evidence.styles import rank
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import ENDED, Run, read_runs


def ls(args: argparse.Namespace) -> int:
    """List runs: status, progress, held-out bits per character, what is wrong with their mixing; or what failed."""
    faults: Faults = {}
    runs = read(args.root, faults)
    code = tell(faults)
    studies = dict.fromkeys(run.study for run in runs)
    if args.study and args.study not in studies:
        raise UserError(
            f"--study {args.study}: no run; there are {', '.join(studies) or 'no runs at all yet'}"
        )
    found = [run for run in runs if args.study in (None, run.study) and args.status in (None, run.state)]
    if args.failed and (left := [run for run in found if run.state not in (*ENDED, "running")]):
        print("\n".join(map(unfinished, left)))
    elif args.failed:
        print("no such runs: what is here has finished, or is running", file=sys.stderr)
    elif found:
        console().print(overview(found))
    elif not faults:
        print("no such runs; make quick makes the first", file=sys.stderr)
    return code


def overview(runs: Sequence[Run]) -> Table:
    """Show how runs stand and what they found."""
    made = table(
        *("folder", "run", "status", "step", "bpc", "gain"), *cells.beside_gain([]), "notes", "updated"
    )
    for run in runs:
        made.add_row(
            shown(run.path.parent),
            run.run_id,
            run.state,
            run.progress,
            inspection.held_out(run),
            cells.shown([run], "composite"),
            *cells.beside_gain([run]).values(),
            "; ".join([*filter(None, [run.status.get("broke")]), *verdict(run).words()]),
            str(run.status.get("updated", ""))[:16].replace("T", " "),
        )
    return made


def unfinished(run: Run) -> str:
    """Say why a run ended before its time, and behind it the file that keeps what it said."""
    why = run.status.get("message") or "ended without a word"
    log = run.status.get("log") or run.path / "train.log"  # paths are long, and there to be copied: no table
    return f"{shown(run.path)}  {run.state} at {run.progress}: {why}\n  {log}"


def read(root: str | None, faults: Faults) -> list[Run]:
    """Read the runs of a results root, by default of both; what cannot be read is put into `faults`."""
    roots = places.DEFAULT_ROOTS if root is None else (root,)
    for each in map(places.runs_root, roots):
        if root is not None and not each.is_dir():
            raise UserError(
                f"--root {root}: no such folder; the default is {' and '.join(places.DEFAULT_ROOTS)}"
            )
    found = (
        sorted(read_runs(places.runs_root(each), onerror=faults.__setitem__), key=_place) for each in roots
    )
    return [run for of_root in found for run in of_root]


def _place(run: Run) -> tuple[str, tuple[int, str]]:
    return run.study, rank(run.connection)  # seeds are in order already
