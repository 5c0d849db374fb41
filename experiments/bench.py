"""What each arm costs beside the baseline: step time, first step, memory, parameters.

python experiments/bench.py                                   identity, HC and mHC at the reference protocol
python experiments/bench.py --connections mhc --threads 1 --rounds 15 --json
python experiments/bench.py --connections all                 every file in conf/connection (an hour)
python experiments/bench.py --scaling                         mHC by dim, n and tokens
python experiments/bench.py --monitor                         a GainMonitor on models of one's own (minutes)
python experiments/bench.py --connections mhc connection.n=8  any override of train.py, on every arm

Text is generated, so no data is needed. `--save` keeps the record of the reference protocol and of its usual arms,
or of more than eight, in results/bench, from which `make report` makes tables and the figure, and any other in
results/local/bench.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as experiments/train.py; read when torch loads


import beside  # noqa: F401
from mhc_repro.analysis.tables import overhead
from mhc_repro.bench import records
from mhc_repro.command_line import compose
from mhc_repro.command_line.entry import Parser, count, exit_code
from mhc_repro.command_line.printing import console, fitted
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.evidence.styles import BASELINE, rank
from mhc_repro.places import LOCAL, RECORDED, results_root
from mhc_repro.runs import manifest

PROTOCOL = "reference"
GRID = ("model.blocks", "model.dim", "connection.n")  # what --scaling sets itself
ARMS = {False: "identity,hc,mhc", True: "mhc"}  # without and with --scaling
EVERY = "all"
ROUNDS = {False: 9, True: 5}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and keep what was asked for; return the exit code."""
    return exit_code(lambda: _run(_options(arguments)))


def _run(options: argparse.Namespace) -> int:
    record = _measure(options)
    if options.save:
        root = results_root(RECORDED if options.usual else LOCAL)
        print(f"kept as {records.save(record, root)}", file=sys.stderr)
    if options.json:
        print(json.dumps(record))
    else:
        _show(record)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="overrides as for train.py, on every arm")
    add(
        "--connections",
        help=f"arms, separated by commas, or {EVERY} (default: {ARMS[False]}; with --scaling: {ARMS[True]})",
    )
    add("--protocol", default=PROTOCOL, help=f"a file in conf/protocol (default: {PROTOCOL})")
    add("--threads", type=count, metavar="N", help="default: all cores")
    add("--rounds", type=count, metavar="N", help=f"default: {ROUNDS[False]}; with --scaling: {ROUNDS[True]}")
    add("--scaling", action="store_true", help="by dim, n and tokens instead (a quarter of an hour)")
    add(
        "--monitor",
        action="store_true",
        help="what watching a model costs instead (needs the extra `models`)",
    )
    add("--json", action="store_true", help="print one JSON line instead of the table")
    add(
        "--save",
        action="store_true",
        help=f"also keep the record in {RECORDED}/bench, with other settings or arms in {LOCAL}/bench",
    )
    options = parser.parse_intermixed_args(arguments)
    options.rounds = options.rounds or ROUNDS[options.scaling]
    usual_arms = options.connections in (None, ARMS[options.scaling])
    names = (ARMS[options.scaling] if options.connections is None else options.connections).split(",")
    if names == [EVERY]:
        names = sorted((path.stem for path in compose.CONF.glob("connection/*.yaml")), key=rank)
    options.connections = [name for name in dict.fromkeys(names) if name != BASELINE]
    many = len(options.connections) > records.FEW
    options.usual = options.protocol == PROTOCOL and not options.overrides and (usual_arms or many)
    if options.monitor and (options.scaling or not options.usual):
        raise UserError(
            "--monitor has models of its own; give it --threads, --rounds, --json and --save alone"
        )
    _check(options.overrides, GRID if options.scaling else ())
    if not options.connections:
        raise UserError(
            "--connections=baseline: it is always measured; name an arm beside it, --connections=mhc"
        )
    return options


def _check(overrides: list[str], swept: Sequence[str]) -> None:
    for line in overrides:
        key = _key(line)
        if key in swept:
            raise UserError(
                f"{line}: --scaling goes through values of {', '.join(swept)} itself; leave it out"
            )
        if key in ("connection", "protocol"):
            flag = {"connection": "--connections", "protocol": "--protocol"}[key]
            raise UserError(f"{line}: what is measured is named by {flag}={line.partition('=')[2]}")
        if key == "study" or any(mark in line for mark in ("glob(", "range(", "choice(")):
            raise UserError(f"{line}: a bench takes settings, one value each, and no study")


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _composed(options: argparse.Namespace, arm: str, more: list[str]) -> Config:
    own = [line for line in options.overrides if arm != BASELINE or not _key(line).startswith("connection.")]
    threads = [f"runtime.threads={options.threads}"] if options.threads else []
    settings = [f"connection={arm}", f"protocol={options.protocol}", "data=synthetic", *threads, *own, *more]
    configs = compose.compose_jobs(settings)
    if len(configs) != 1:
        raise UserError(
            f"{' '.join(own)}: a bench takes settings, no study; name arms with --connections=hc,mhc"
        )
    return configs[0]


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    composed = partial(_composed, options)
    baseline, *rest = (composed(arm, []) for arm in (BASELINE, *options.connections))
    arms = dict(zip(options.connections, rest, strict=True))
    # torch: a wrong command line should not wait for it
    from mhc_repro.bench import measure, monitor, processes, scaling

    code = manifest.code()
    record = {
        "schema_version": records.SCHEMA_VERSION,
        "date": date.today().isoformat(),
        "commit": code["commit"],
        "dirty": code["dirty"],
        "load": round(os.getloadavg()[0], 1),  # of other work, before ours
    }
    if options.monitor:
        call = partial(monitor.measure, options.rounds, options.threads)
        return record | processes.apart(call)
    record |= {"protocol": options.protocol, "overrides": options.overrides}
    if options.scaling:
        return record | scaling.scale(composed, options.connections, options.rounds)
    return record | measure.measure(baseline, arms, options.rounds)


def _show(record: dict[str, Any]) -> None:
    printed = console(wide=120)
    printed.print(fitted(overhead.frame(record), printed.width))
    printed.print(overhead.provenance(record), style="dim")


if __name__ == "__main__":
    sys.exit(main())
