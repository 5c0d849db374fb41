"""The jobs of a command line, as lines that one would type and as configs."""

import shlex
from dataclasses import dataclass

from mhc_repro.command_line.launcher import Queue
from mhc_repro.config import Config
from mhc_repro.runs.directory import ENDED, RunDirectory


@dataclass(frozen=True)
class Sweep:
    """The jobs of a command line: one, or those of a multirun."""

    configs: list[Config]
    lines: list[list[str]]  # the settings of each job, as one would type them
    n_jobs: int | None  # how many of a multirun go on side by side; null where a launcher of Hydra's has them
    launcher: str = "basic"  # of a multirun, as hydra/launcher= names it
    queue: Queue | None = None  # where it is Slurm's

    @property
    def labels(self) -> list[str]:
        """What each job has that not all have."""
        shared = set(self.lines[0]).intersection(*self.lines) if self.lines else set()
        return [" ".join(line for line in job if line not in shared) for job in self.lines]

    def left(self) -> list[str]:
        """Return the settings of each run that has not ended, one run a line."""
        lines = zip(map(RunDirectory.of, self.configs), self.lines, strict=True)
        runs = {run.path: (run, line) for run, line in lines}
        return [shlex.join(line) for run, line in runs.values() if run.state_or_damaged() not in ENDED]

    @property
    def how(self) -> str:
        """Say of several jobs how they follow one another."""
        if self.queue:
            return f"in all, as jobs of Slurm that have {self.queue.each}"
        return "one after another" if self.n_jobs in (None, 1) else "in all, several side by side"
