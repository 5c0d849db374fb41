"""`mhc-repro`: look before a run, at a run, at two runs side by side. `experiments/train.py` trains."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from mhc_repro.analysis.tables import cells
from mhc_repro.cache import cache_directory
from mhc_repro.command_line import fineweb, inspection
from mhc_repro.command_line.entry import Faults, Parser, exit_code, tell
from mhc_repro.errors import UserError
from mhc_repro.evidence.arms import rank
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import ENDED, Run, RunDirectory, checkout, manifest, plan, read_runs, results_root
from mhc_repro.runs.directory import STATUSES

WIDE = 200  # columns, where the output is a file or a pipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return the exit code."""
    return exit_code(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args, rest = _parser().parse_known_args(argv)
    if rest and args.run is not show_plan:
        raise UserError(f"unrecognised: {' '.join(rest)}; see mhc-repro {args.command} --help")
    args.overrides = rest
    code: int = args.run(args)
    return code


def data(args: argparse.Namespace) -> int:
    """Fetch enwik8 if need be, verify it, say where it is; of fineweb say where it is to be had, verify --from."""
    if args.name == "fineweb":
        print(fineweb.found(args.given) if args.given else fineweb.GUIDE)
        return 0
    from mhc_repro.training import enwik8

    path = enwik8.fetch(args.given, cache_directory(args.cache), option="--from ")
    print(f"{path}  {enwik8.SIZE:,} bytes  sha256 {enwik8.SHA256}")
    return 0


def show_plan(args: argparse.Namespace) -> int:
    """List the runs that experiments/train.py would make of the same overrides, and for how long."""
    from mhc_repro.command_line.compose import compose_jobs  # Hydra is needed nowhere else here

    print(plan.table(plan.plan(compose_jobs(args.overrides))))
    return 0


def ls(args: argparse.Namespace) -> int:
    """List runs: status, progress, held-out bits per character, what is wrong with their mixing."""
    table = _table(
        *("folder", "run", "status", "step", "bpc", "gain"), *cells.beside_gain([]), "notes", "updated"
    )
    faults: Faults = {}
    runs = _runs(args.root, faults)
    code = tell(faults)
    for run in runs:
        if args.study in (None, run.study) and args.status in (None, run.state):
            when = str(run.status.get("updated", ""))[:16].replace("T", " ")
            table.add_row(
                _folder(run),
                run.run_id,
                run.state,
                run.progress,
                inspection.held_out(run),
                cells.shown([run], "composite"),
                *cells.beside_gain([run]).values(),
                "; ".join([*filter(None, [run.status.get("broke")]), *verdict(run).words()]),
                when,
            )
    studies = dict.fromkeys(run.study for run in runs)
    if args.study and args.study not in studies:
        raise UserError(
            f"--study {args.study}: no run; there are {', '.join(studies) or 'no runs at all yet'}"
        )
    if not table.row_count:
        print("no such runs; make quick makes the first", file=sys.stderr)
        return code
    _console().print(table)
    return code


def show(args: argparse.Namespace) -> int:
    """Show one run: config, status, the numbers of the tables, what made it."""
    faults: Faults = {}
    run = inspection.find(args.name, _runs(args.root, faults), faults)
    print(f"{run.path}\n\n{yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)}")
    table = _table("", "")
    for key, value in {**run.status, "status": run.state, **inspection.numbers(run)}.items():
        table.add_row(key.replace("_", " "), _text(value))
    for word, meaning in inspection.findings(run):
        table.add_row(word, meaning)
    for key in ("commit", "dirty", "exact"):
        table.add_row(key, _text(run.manifest.get(key)))
    _console().print(table)
    return tell(faults)


def compare(args: argparse.Namespace) -> int:
    """Show what two runs differ in, and their numbers side by side; batches are paired if seed and data are."""
    faults: Faults = {}
    runs = _runs(args.root, faults)
    a, b = (inspection.find(name, runs, faults) for name in (args.a, args.b))
    settings = _table("setting", f"A: {a.run_id}", f"B: {b.run_id}")
    for key, (left, right) in inspection.differences(a, b).items():
        settings.add_row(key, _text(left), _text(right))
    for key in ("commit", "dirty"):
        settings.add_row(key, _text(a.manifest.get(key)), _text(b.manifest.get(key)))
    for key, value in (a.manifest.get("fingerprint") or {}).items():
        if value != (other := (b.manifest.get("fingerprint") or {}).get(key)):
            settings.add_row(key, _text(value), _text(other))
    numbers = _table("number", "A", "B", "B - A")
    of_a, of_b = inspection.numbers(a), inspection.numbers(b)
    for key in of_a:
        numbers.add_row(key, _text(of_a[key]), _text(of_b[key]), _text(of_b[key] - of_a[key]))
    _console().print(settings, numbers)
    print(inspection.paired(a, b))
    return tell(faults)


def verify(args: argparse.Namespace) -> int:
    """Rebuild tables, figures and README from the results and compare every byte."""
    script = checkout() / "experiments" / "report.py"
    if not script.exists():
        raise UserError(f"{script}: not there; run mhc-repro verify in a checkout of the repository")
    return subprocess.run([sys.executable, str(script), "--verify"], check=False).returncode


def seal(args: argparse.Namespace) -> int:
    """Give runs that ended before runs had checksums theirs, of what they hold now."""
    faults: Faults = {}
    old = [run for run in _runs(args.root, faults) if run.state in ENDED and "tables" not in run.manifest]
    for run in old:
        with RunDirectory(run.path).locked() as directory:
            directory.seal()
    print(
        f"sealed {len(old)} run{'s' * (len(old) != 1)}",
        *(f"  {_folder(run)}/{run.run_id}" for run in old),
        sep="\n",
    )
    return tell(faults)


def doctor(args: argparse.Namespace) -> int:
    """Say what this machine has: versions, device, threads, compiler, disk, and a data set that is whole."""
    import torch

    from mhc_repro.config import RuntimeConfig
    from mhc_repro.training import compiler, enwik8, kernels, runtime

    cache = cache_directory(args.cache)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    fault = enwik8.fault(cache / "enwik8") if (cache / "enwik8").exists() else "not there yet; mhc-repro data"
    config = RuntimeConfig(cache=args.cache)
    device = runtime.device_of(config)
    compiler.configure()
    why = runtime.why_uncompiled(config, device, trusting=False)
    found = {
        **manifest.versions(),
        "cpu": f"{manifest.cpu_model()} ({torch.backends.cpu.get_cpu_capability()})",
        "device": f"{device} ({torch.cuda.get_device_name()})" if device.type == "cuda" else str(device),
        "threads": runtime.default_threads(),
        "compile": f"no: {why}" if why else f"yes, kernels in {os.environ[kernels.FOLDER]}",
        "cache": cache,
        "disk": f"{shutil.disk_usage(existing).free / 1e9:.0f} GB free",
        "enwik8": fault or "whole",
    }
    table = _table("", "")
    for key, value in found.items():
        table.add_row(key, str(value))
    _console().print(table)
    return 0


def _runs(root: str | None, faults: Faults) -> list[Run]:
    roots = plan.DEFAULT_ROOTS if root is None else (root,)
    for each in map(results_root, roots):
        if root is not None and not each.is_dir():
            raise UserError(
                f"--root {root}: no such folder; the default is {' and '.join(plan.DEFAULT_ROOTS)}"
            )
    found = (sorted(read_runs(results_root(each), onerror=faults.__setitem__), key=_place) for each in roots)
    return [run for of_root in found for run in of_root]


def _folder(run: Run) -> str:
    """Return where a run stands, which tells a recorded one from one's own of the same study."""
    folder, here = run.path.parent, Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _place(run: Run) -> tuple[str, tuple[int, str]]:
    return run.study, rank(run.connection)  # seeds are in order already


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "run")  # an id is there to be copied
    return table


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.5g}"
    return str(value)


def _parser() -> Parser:
    parser = Parser(
        prog="mhc-repro", description="Look before a run, at a run, and at two runs side by side."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (run.__doc__ or name).splitlines()[0]  # python -OO has no docstrings
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    cache = "folder of data and checkpoints (default: $MHC_REPRO_CACHE, else the platform's)"
    root = f"results root (default: {' and '.join(plan.DEFAULT_ROOTS)})"
    fetch = command("data", data)
    fetch.add_argument("name", nargs="?", choices=["enwik8", "fineweb"], default="enwik8")
    fetch.add_argument(
        "--from",
        dest="given",
        metavar="PATH",
        help="a copy that you have: of enwik8 plain, .gz or .zip, of fineweb a folder of shards",
    )
    fetch.add_argument("--cache", help=cache)
    command("plan", show_plan).usage = "mhc-repro plan [-m] [OVERRIDE ...]"
    listing = command("ls", ls)
    listing.add_argument("--study")
    listing.add_argument("--status", choices=[*STATUSES, "missing"])
    single = command("show", show)
    single.add_argument("name", metavar="RUN", help="run id, or as much of its beginning as is unique")
    double = command("compare", compare)
    for name in "ab":
        double.add_argument(name, metavar=name.upper(), help="run id, or its unique beginning")
    for each in (listing, single, double, command("seal", seal)):
        each.add_argument("--root", help=root)
    command("verify", verify)
    command("doctor", doctor).add_argument("--cache", help=cache)
    return parser


if __name__ == "__main__":
    sys.exit(main())
