"""Spend a short lease of a GPU: check the arms on it, bench them, train what there is time for, pack what finished.

    make gpu MINUTES=10
    python experiments/gpu.py --minutes 10 connection=baseline,hc,mhc     any override of train.py

Needs no network, and leaves out what wants a package that is not there. Runs go into results/local, under the names
of their studies with `_gpu` behind, several side by side on the card, a seed at a time. What the lease cuts off
goes on when the command is repeated. `mhc-repro import` adds the archive to the results of another machine.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from math import nan
from pathlib import Path

import beside

try:
    import mhc_repro.command_line.compose
    import mhc_repro.training.loop  # noqa: F401
except ModuleNotFoundError as error:
    hint = "put what pyproject.toml lists into a folder, and PYTHONPATH=folder"
    print(f"error: {error.name} is not here; {hint}", file=sys.stderr)
    sys.exit(2)

from mhc_repro.command_line import compose, jobs
from mhc_repro.command_line.entry import Parser, count, exit_code
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.evidence.styles import rank
from mhc_repro.places import LOCAL
from mhc_repro.runs import ENDED, RunDirectory, plan
from mhc_repro.runs.archive import LIMIT, pack
from mhc_repro.training import stops

HERE = Path(__file__).resolve().parent
ARCHIVE = "gpu-runs.tar"
STEPS = "check", "bench", "train"
RESERVE = 20.0  # seconds at the end, to save and pack
SHORTEST, LONGEST = 0.34, 7 * 24 * 60  # minutes: RESERVE and a moment, a week


def main(arguments: list[str] | None = None) -> int:
    """Spend the lease; return the exit code: 0 if a run was packed."""
    return exit_code(lambda: _run(_options(arguments)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="key=value", help="overrides as for train.py, of every study")
    add("--minutes", type=_minutes, default=10.0, help="how long the lease is (default: 10)")
    add("--device", default="cuda", help="as runtime.device (default: cuda)")
    add("--studies", default="stability,stress", help="default: stability,stress")
    add("--side", type=count, default=4, metavar="N", help="runs that share the card (default: 4)")
    add("--steps", default=",".join(STEPS), help="what to do, in this order (default: all)")
    add("--out", type=_archive, default=ARCHIVE, help=f"the archive (default: {ARCHIVE})")
    return parser.parse_intermixed_args(arguments)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = nan
    if not SHORTEST <= minutes <= LONGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of minutes from {SHORTEST} to {LONGEST:,}, a week"
        )
    return minutes


def _archive(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no file in a folder that is there and can be written; for example {ARCHIVE}"
        )
    return path


def _run(options: argparse.Namespace) -> int:
    end = time.monotonic() + 60 * options.minutes - RESERVE
    steps = options.steps.split(",")
    if unknown := set(steps) - set(STEPS):
        raise UserError(f"--steps {min(unknown)}: must be of {', '.join(STEPS)}")
    configs = _configs(options)  # a mistake comes before minutes are spent
    if "check" in steps:
        _within(end, "check", "pytest", "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests")
    if "bench" in steps:
        _within(end, "bench", "rich", str(HERE / "bench.py"), "--save", f"runtime.device={options.device}")
    if "train" in steps:
        print(plan.table(plan.plan(configs), f"in all, {options.side} at a time"), flush=True)
        _train(configs, end, options.side)
    ended = [run for run in map(RunDirectory.of, configs) if run.state_or_damaged() in ENDED]
    if not ended:
        print("no run has finished: nothing to pack", file=sys.stderr)
        return jobs.FAILED
    left = pack(ended, options.out)
    print(
        f"{options.out}: {len(ended) - len(left)} of {len(configs)} runs; mhc-repro import adds them to results"
    )
    for run in left:
        print(f"{run.path}: no room for it in {LIMIT >> 20} MiB", file=sys.stderr)
    return 0 if len(left) < len(ended) else jobs.FAILED


def _configs(options: argparse.Namespace) -> list[Config]:
    """Return the runs of the studies, seed by seed, so that what is cut off leaves arms that can be compared."""
    settings = [f"runtime.device={options.device}", f"runtime.results={LOCAL}", *options.overrides]
    found = []
    for study in options.studies.split(","):
        for config in compose.compose_jobs([f"study={study}", *settings]):
            config.study = f"{study}_gpu"
            found.append(config)
    return sorted(found, key=lambda config: (config.seed, config.study, rank(config.connection.name)))


def _within(end: float, name: str, package: str, *arguments: str) -> None:
    if find_spec(package) is None:
        print(f"{name}: left out, there is no {package} here", file=sys.stderr)
        return
    # In a session of its own, so that what it started ends with it.
    process = subprocess.Popen([sys.executable, *arguments], cwd=beside.CHECKOUT, start_new_session=True)
    try:
        print(f"{name}: exit code {process.wait(max(1.0, end - time.monotonic()))}", flush=True)
    except subprocess.TimeoutExpired:
        print(f"{name}: cut off by the end of the lease", file=sys.stderr)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _train(configs: list[Config], end: float, side: int) -> None:
    alarm = threading.Timer(max(0.0, end - time.monotonic()), os.kill, (os.getpid(), signal.SIGTERM))
    with stops.taken():  # the alarm is a request, whenever it rings
        alarm.start()
        try:
            jobs.side_by_side(configs, [RunDirectory.of(config).run_id for config in configs], side)
        finally:
            alarm.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
