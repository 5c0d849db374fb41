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

from mhc_repro.cache import cache_directory
from mhc_repro.command_line import fineweb, inspection
from mhc_repro.command_line.entry import Faults, Parser, exit_code, tell
from mhc_repro.command_line.listing import ls, read
from mhc_repro.command_line.printing import console, table
from mhc_repro.errors import UserError
from mhc_repro.evidence.ledger import LEDGER
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.paths import nearest
from mhc_repro.places import DEFAULT_ROOTS, RECORDED, checkout, results_root
from mhc_repro.runs import archive, locks, manifest, plan
from mhc_repro.runs.directory import STATUSES


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
    from mhc_repro.corpora import enwik8

    path = enwik8.fetch(args.given, cache_directory(args.cache), option="--from ")
    print(f"{path}  {enwik8.SIZE:,} bytes  sha256 {enwik8.SHA256}")
    return 0


def show_plan(args: argparse.Namespace) -> int:
    """List the runs that experiments/train.py would make of the same overrides, and for how long."""
    from mhc_repro.command_line.compose import check_command_line  # Hydra is needed nowhere else here

    sweep = check_command_line(args.overrides)
    if not sweep.configs:
        raise UserError("plan takes settings alone; experiments/train.py shows what Hydra has to say")
    if args.lines:
        left = sweep.left()
        print("".join(f"{line}\n" for line in left), end="")
        if not left and (done := plan.again(plan.plan(sweep.configs), sweep.configs[0].runtime.results)):
            print(done, file=sys.stderr)
    else:
        print(plan.table(plan.plan(sweep.configs), sweep.how))
    return 0


def show(args: argparse.Namespace) -> int:
    """Show one run: config, status, the numbers of the tables, what made it."""
    faults: Faults = {}
    run = inspection.find(args.name, read(args.root, faults), faults)
    print(f"{run.path}\n\n{yaml.safe_dump(inspection.known(run), sort_keys=False, allow_unicode=True)}")
    rows, units = table("", "", ""), {each.label: each.unit for each in LEDGER.values() if each.unit != "1"}
    status = {key.replace("_", " "): value for key, value in (run.status | {"status": run.state}).items()}
    for key, value in {**status, **inspection.numbers(run)}.items():
        rows.add_row(key, _text(value), units.get(key, ""))
    for word, meaning in verdict(run).meanings():
        rows.add_row(word, meaning)
    for key in ("commit", "dirty", "exact"):
        rows.add_row(key, _text(run.manifest.get(key)))
    console().print(rows)
    return tell(faults)


def compare(args: argparse.Namespace) -> int:
    """Show what two runs differ in, and their numbers side by side; batches are paired if seed and data are."""
    faults: Faults = {}
    runs = read(args.root, faults)
    a, b = (inspection.find(name, runs, faults) for name in (args.a, args.b))
    settings = table("setting", f"A: {a.run_id}", f"B: {b.run_id}")
    for key, (left, right) in inspection.differences(a, b).items():
        settings.add_row(key, _text(left), _text(right))
    for key in ("commit", "dirty"):
        settings.add_row(key, _text(a.manifest.get(key)), _text(b.manifest.get(key)))
    made_a, made_b = (each.manifest.get("fingerprint") or {} for each in (a, b))
    for key in dict.fromkeys([*made_a, *made_b]):
        if made_a.get(key) != made_b.get(key):
            settings.add_row(key, _text(made_a.get(key)), _text(made_b.get(key)))
    numbers = table("number", "A", "B", "B - A")
    of_a, of_b = inspection.numbers(a), inspection.numbers(b)
    for key in of_a:
        numbers.add_row(key, _text(of_a[key]), _text(of_b[key]), _text(of_b[key] - of_a[key]))
    console().print(settings, numbers)
    print(inspection.paired(a, b))
    return tell(faults)


def verify(args: argparse.Namespace) -> int:
    """Rebuild tables, figures and README from the results and compare every byte."""
    script = checkout() / "experiments" / "report.py"
    if not script.exists():
        raise UserError(f"{script}: not there; run mhc-repro verify in a checkout of the repository")
    return subprocess.run([sys.executable, str(script), "--verify"], check=False).returncode


def bring(args: argparse.Namespace) -> int:
    """Add the runs of an archive, such as make gpu leaves, to the results; each is checked first."""
    added, known = archive.unpack(Path(args.archive), results_root(args.root or RECORDED))
    print(f"added {len(added)} run{'s' * (len(added) != 1)}, {len(known)} were there", *added, sep="\n  ")
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Say what this machine has: versions, device, threads, compiler, disk, and a data set that is whole."""
    import torch

    from mhc_repro.config import RuntimeConfig
    from mhc_repro.corpora import enwik8
    from mhc_repro.training import compiler, kernels, runtime

    cache = cache_directory(args.cache)
    fault = enwik8.fault(cache / "enwik8") if (cache / "enwik8").exists() else "not there yet; mhc-repro data"
    config = RuntimeConfig(cache=args.cache)
    device = runtime.device_of(config)
    compiler.configure()
    why = runtime.why_uncompiled(config, device, trusting=False)
    results = results_root(config.results)
    results.mkdir(parents=True, exist_ok=True)
    found = {
        **manifest.versions(),
        "cpu": f"{manifest.cpu_model()} ({torch.backends.cpu.get_cpu_capability()})",
        "device": f"{device} ({torch.cuda.get_device_name()})" if device.type == "cuda" else str(device),
        "threads": runtime.default_threads(),
        "compile": f"no: {why}" if why else f"yes, kernels in {os.environ[kernels.KERNELS]}",
        "cache": cache,
        "disk": f"{shutil.disk_usage(nearest(cache)).free / 1e9:.0f} GB free",
        "enwik8": fault or "whole",
        "locks": "hold" if locks.hold(results / ".lock") else f"of {results} do not hold: {locks.MISSING}",
    }
    rows = table("", "")
    for key, value in found.items():
        rows.add_row(key, str(value))
    console().print(rows)
    return 0


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.5g}"
    return str(value)


def _parser() -> Parser:
    parser = Parser(
        prog="mhc-repro", description="Look before a run, at a run, and at two runs side by side."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    commands.type = str  # of all that follows, too, which the command's own parser reads

    def command(name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (run.__doc__ or name).splitlines()[0]  # python -OO has no docstrings
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    cache = "folder of data and checkpoints (default: $MHC_REPRO_CACHE, else the platform's)"
    root = f"results root (default: {' and '.join(DEFAULT_ROOTS)})"
    fetch = command("data", data)
    fetch.add_argument("name", nargs="?", choices=["enwik8", "fineweb"], default="enwik8")
    fetch.add_argument(
        "--from",
        dest="given",
        metavar="PATH",
        help="a copy that you have: of enwik8 plain, .gz or .zip, of fineweb a folder of shards",
    )
    fetch.add_argument("--cache", help=cache)
    planning = command("plan", show_plan)
    planning.usage = "mhc-repro plan [--lines] [-m] [OVERRIDE ...]"
    planning.add_argument(
        "--lines", action="store_true", help="only the overrides of each run that is left, one run a line"
    )
    listing = command("ls", ls)
    listing.add_argument("--study")
    listing.add_argument("--status", choices=[*STATUSES, "missing"])
    listing.add_argument(
        "--failed", action="store_true", help="what did not finish and is not running, why, and its log"
    )
    single = command("show", show)
    single.add_argument("name", metavar="RUN", help="run id, or as much of its beginning as is unique")
    double = command("compare", compare)
    for name in "ab":
        double.add_argument(name, metavar=name.upper(), help="run id, or its unique beginning")
    bringing = command("import", bring)
    bringing.add_argument("archive", metavar="ARCHIVE")
    bringing.add_argument("--root", help=f"results root (default: {RECORDED})")
    for each in (listing, single, double):
        each.add_argument("--root", help=root)
    command("verify", verify)
    command("doctor", doctor).add_argument("--cache", help=cache)
    return parser


if __name__ == "__main__":
    sys.exit(main())
