"""What the other processes of a run do: what rank 0 says. They write nothing, and speak where rank 0 cannot."""

import sys
import traceback

from mhc_repro import world
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.runs.directory import RunDirectory
from mhc_repro.training import runtime, stops, together
from mhc_repro.training.trainer import Trainer
from mhc_repro.words import screenful


def follow(config: Config) -> str:
    """Take this process's part in a run; return `finished` when rank 0 is through with it, `lost` or `failed`."""
    run = RunDirectory.of(config)
    with stops.taken():
        try:
            if start := together.told():
                _train(config, start)
        except together.Lost:
            written = (run.read_status() or {}).get("status")
            if world.rank() == 1 and written == "running" and not run.busy():
                _say(
                    f"{run.run_id}  its first process died; repeat the command to go on from the last checkpoint"
                )
            return "lost"
        except UserError:
            raise  # rank 0's words for it are ours
        except Exception:
            _say(screenful(traceback.format_exc()))
            return "failed"
    return "finished"


def _train(config: Config, start: together.Start) -> None:
    config.runtime.compile = "on" if start.fingerprint["compile"] else "off"
    device, _ = runtime.set_up(config.runtime, start.fingerprint)
    trainer = Trainer(config, device)
    if start.fingerprint["compile"]:
        trainer.compile()
    if start.state:
        trainer.load(start.state)
    with together.noticing():
        while trainer.done < config.train.steps:
            trainer.step()
            if together.end():
                break
        together.told()


def _say(text: str) -> None:
    """Tell of what is this process's alone: what all say is rank 0's to say."""
    print(f"rank {world.rank()}: {text}", file=sys.__stderr__, flush=True)
