"""One run from its config to its finished directory: skip, start, resume or refuse, and how it ended.

A run may be killed at any moment and the command repeated (`session`).
"""

import sys
import traceback

from mhc_repro import world
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.places import LOCAL, is_recorded
from mhc_repro.runs import files
from mhc_repro.runs.directory import ENDED, RunBusy, RunDirectory
from mhc_repro.runs.reader import read_run
from mhc_repro.training import compiler, follower, runtime, stops, together
from mhc_repro.training.checkpoint import Checkpoints, checkpoint_folder
from mhc_repro.training.session import LOST, STOPPED, Session
from mhc_repro.words import one_line, screenful


def train(config: Config) -> str:
    """Make the run of `config`, or what is left of it; return its status, `busy` if another process has it.

    Of several processes that make it together, `lost` when another has died. Raises UserError for what the user can
    mend. Any other failure is recorded and returned as `failed`.
    """
    together.connect(runtime.device_of(config.runtime))
    if world.rank():
        return follower.follow(config)
    run = RunDirectory.of(config)
    try:
        with together.leading(), stops.taken(), run.locked():
            return _train_locked(config, run)
    except RunBusy as busy:
        print(busy, file=sys.stderr)
        return "busy"
    except OSError as error:
        raise UserError(
            f"{error.filename or run.path}: {error.strerror or error}; "
            "make room, or choose folders with runtime.results= and runtime.cache="
        ) from None


def _train_locked(config: Config, run: RunDirectory) -> str:
    before = run.read_status()
    status = str((before or {}).get("status"))
    if status in ENDED:
        read_run(run.path)
        Checkpoints(checkpoint_folder(config, run), 0).drop()  # a kill may have come before it was done
        anew = f"add runtime.results={LOCAL}" if is_recorded(run.path) else "delete that folder"
        say = f"{run.run_id}  already {status}, in {run.path}; to train it anew, {anew}"
        print(say, file=sys.stderr)
        return status
    if before is None and run.table("metrics").parquet.exists():  # finished once: not to be trained over
        raise files.broken(run.path / "status.json", "no such file")
    try:
        with stops.taken(stops.leave):
            if stops.requested():  # before this
                raise stops.Stopped
            try:
                return Session(config, run).go()
            except compiler.Failed:
                return Session(config, run).go()
    except stops.Stopped:
        print(f"{run.run_id}  interrupted before a step; repeat the command to go on", file=sys.stderr)
        run.write_ended(config, "interrupted", STOPPED)
        return "interrupted"
    except (UserError, OSError):
        raise
    except together.Lost:
        print(f"{run.run_id}  {LOST} before a step; repeat the command to go on", file=sys.stderr)
        run.write_ended(config, "interrupted", LOST)
        return "lost"
    except Exception as error:
        text = screenful(traceback.format_exc())
        print(f"{run.run_id}  failed before it could train\n{text}", file=sys.stderr)
        run.write_ended(config, "failed", one_line(repr(error)))
        return "failed"
