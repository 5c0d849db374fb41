"""The runs of a command line: one here, or several side by side, each in a process of its own.

Departs from Hydra's launcher of the name joblib, whose config this takes: it has a pool of processes, and when one
of them is killed, for want of memory or by hand, the pool kills the others as they are and begins nothing more.
"""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from mhc_repro.command_line.entry import INTERRUPTED, exit_code
from mhc_repro.config import Config
from mhc_repro.cores import cores
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import ENDED, RunDirectory, read_run
from mhc_repro.training import stops

FAILED = 1
CODES = {"finished": 0, "diverged": 0, "interrupted": INTERRUPTED}
SPAWN = multiprocessing.get_context("spawn")


def train_here(config: Config) -> int:
    """Train in this process and say what is found of a run that ended; return the exit code."""
    from mhc_repro.training.loop import train  # torch is slow to import, a wrong command line should not wait

    def run() -> int:
        status = train(config)
        if status in ENDED:
            tell_findings(config)
        return CODES.get(status, FAILED)

    try:
        return exit_code(run, unread=FAILED)
    except Exception:  # ours, which Hydra would not know from one of its own
        traceback.print_exc()
        return FAILED


def tell_findings(config: Config) -> None:
    """Say the verdict on a run that has ended."""
    for word, meaning in verdict(read_run(RunDirectory.of(config).path)).meanings():
        print(f"{word}: {meaning}", file=sys.stderr)


def announce(number: int, label: str) -> None:
    """Say which job of a multirun begins."""
    if label:
        print(f"job {number + 1}: {label}", file=sys.stderr, flush=True)


def workers(n_jobs: int, configs: Sequence[Config]) -> int:
    """Return how many runs go on at once where `n_jobs` may; UserError where they would share a GPU."""
    count = max(1, min(n_jobs if n_jobs > 0 else cores(), len(configs)))
    asked = [config.runtime for config in configs if config.runtime.device != "cpu"]
    if count > 1 and asked:
        from mhc_repro.training.runtime import device_of

        devices = [device for runtime in asked if (device := device_of(runtime)).type != "cpu"]
        if devices:
            raise UserError(
                f"hydra.launcher.n_jobs={count}: so many runs at once would share {devices[0]}; "
                "use hydra.launcher.n_jobs=1 (make: JOBS=1), or runtime.device=cpu"
            )
    return count


def side_by_side(configs: Sequence[Config], labels: Sequence[str], count: int) -> dict[int, int]:
    """Train `count` runs at a time; return the exit codes of the jobs that were begun, by their number.

    A signal is passed on to all that run, and nothing is begun after it.
    """
    first: dict[Path, int] = {}  # job of a run: another may differ in how it is executed alone
    jobs = [first.setdefault(RunDirectory.of(config).path, n) for n, config in enumerate(configs)]
    waiting, running, codes = deque(first.values()), dict[Any, tuple[int, SpawnProcess]](), dict[int, int]()
    resource_tracker.ensure_running()  # else it begins with the first process, and lets go of the signals held
    with stops.taken(_pass_on):
        while running or (waiting and not stops.requested()):
            while waiting and len(running) < count and not stops.requested():
                n = waiting.popleft()
                announce(n, labels[n])
                if RunDirectory.of(configs[n]).state_or_damaged() in ENDED:
                    codes[n] = train_here(configs[n])  # which says so
                    if stops.requested():  # while that listened
                        _pass_on(stops.asked_by())
                    continue
                process = SPAWN.Process(target=_alone, args=(configs[n], count))
                with stops.held():  # until it is among those that a signal is passed on to
                    if stops.requested():
                        break
                    process.start()
                running[process.sentinel] = n, process
            for sentinel in connection.wait(list(running), None if running else 0):
                n, process = running.pop(sentinel)
                process.join()
                codes[n] = _code(configs[n], process.exitcode)
    return {n: codes[job] for n, job in enumerate(jobs) if job in codes}


def _alone(config: Config, count: int) -> None:
    stops.listen()
    stops.let_go()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    from mhc_repro.training import runtime

    os.environ[runtime.CONCURRENT] = str(count)
    if count > 1 and config.runtime.progress == "auto":  # bars would write over one another
        config.runtime.progress = "lines"
    sys.exit(train_here(config))


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    if not stops.requested():
        os.kill(os.getpid(), signal.SIGTERM)


def _pass_on(number: int) -> None:
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, number)


def _code(config: Config, exitcode: int | None) -> int:
    """Return the exit code of a job; one whose process was killed is marked as failed."""
    assert exitcode is not None
    if exitcode >= 0:
        return exitcode
    number = signal.Signals(-exitcode)
    if number in stops.SIGNALS:  # a second request
        return INTERRUPTED
    run, why = RunDirectory.of(config), f"its process was killed by {number.name}"
    memory = ", most likely for want of memory" if number == signal.SIGKILL else ""
    print(f"{run.run_id}  failed: {why}{memory}", file=sys.stderr)
    try:
        with run.locked():
            if (run.read_status() or {}).get("status", "running") == "running":
                run.write_ended(config, "failed", why)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    return FAILED
