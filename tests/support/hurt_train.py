"""experiments/train.py for torchrun to start, with an accident: `$ACCIDENT` is "folder step rank what".

`kill` kills the process of that rank at that step of a run in that folder; `ask` sends torchrun SIGTERM.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))

import train
from mhc_repro import places
from mhc_repro.training.trainer import Trainer

STEP = Trainer.step


def step(self: Trainer) -> dict[str, Any]:
    row = STEP(self)
    *when, what = os.environ["ACCIDENT"].split()
    if when == [Path(self.config.runtime.results).name, str(self.done), os.environ["RANK"]]:
        who, number = {"kill": (os.getpid(), signal.SIGKILL), "ask": (os.getppid(), signal.SIGTERM)}[what]
        os.kill(who, number)
    return row


if __name__ == "__main__":
    Trainer.step = step
    places.DEFAULT_ROOTS = ()  # no recorded run tells the time
    sys.exit(train.main(sys.argv[1:]))
