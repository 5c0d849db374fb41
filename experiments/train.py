"""Train one run, or the runs of a multirun or study; what is finished is skipped, what was stopped goes on.

    python experiments/train.py connection=mhc seed=1 train.steps=100
    python experiments/train.py -m connection=baseline,hc,mhc seed=0,1,2
    python experiments/train.py study=stability
    torchrun --nproc-per-node=2 experiments/train.py connection=mhc      one run on two GPUs (or in two processes)

Exit codes: 0 all runs finished or diverged, 1 one failed or another process has it, 2 a mistake of the user's,
130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

import logging
import os
import sys

# OpenMP's threads spin while they wait, which on a machine with other work to do makes every step many
# times slower; it is read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# An exception comes back to us: Hydra would print it with its traceback and exit.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import beside  # noqa: F401
from mhc_repro import cache, world
from mhc_repro.command_line import compose, jobs, mistakes, ranks
from mhc_repro.command_line.entry import INTERRUPTED, exit_code
from mhc_repro.command_line.sweep import Sweep
from mhc_repro.errors import UserError
from mhc_repro.runs import ENDED, RunDirectory, plan
from mhc_repro.training import stops

labels: list[str] = []  # of the jobs
codes: list[int] = []  # of those that Hydra ran in this process


@hydra.main(version_base="1.3", config_path=str(compose.CONF), config_name=compose.NAME)
def job(composed: DictConfig) -> None:
    """Train one job of Hydra's; an interrupt ends the whole multirun, anything else lets the next job run."""
    if stops.requested():
        return
    number = HydraConfig.get().job.num if HydraConfig.get().mode == RunMode.MULTIRUN else 0
    jobs.announce(number, labels[number])
    codes.append(jobs.train_here(compose.to_config(composed)))
    if codes[-1] == INTERRUPTED:
        stops.hand_over()  # it has been saved, and may be queued again
        sys.exit(stops.exit_code())
    if codes[-1] and world.size() > 1:  # the others are somewhere in that run
        sys.exit(codes[-1])


def main(argv: list[str]) -> int:
    """Check the whole command line, show the plan of a multirun, run it; return the exit code."""
    argv = compose.for_hydra(argv)

    def run() -> int:
        code = exit_code(lambda: _run(argv), unread=1)
        return stops.exit_code() if code == INTERRUPTED else code

    return exit_code(lambda: ranks.behind_rank_0(run) if world.rank() else run(), unread=1)


def _run(argv: list[str]) -> int:
    stops.forget()
    sweep = compose.check_command_line(argv)
    ranks.check(sweep)
    if len(sweep.configs) > 1 and not world.rank():
        planned = plan.plan(sweep.configs)
        print(plan.table(planned, sweep.how), end="\n\n", flush=True)
        if done := plan.again(planned, sweep.configs[0].runtime.results):
            print(done, flush=True)
    if sweep.n_jobs is None:
        ended = _by_hydra(sweep, argv)
    else:
        count = jobs.workers(sweep.n_jobs, sweep.configs)
        ended = jobs.side_by_side(sweep.configs, sweep.labels, count)
    left = [RunDirectory.of(config) for n, config in enumerate(sweep.configs) if ended.get(n) != 0]
    if left and stops.requested():
        return INTERRUPTED
    if left and len(sweep.configs) > 1:
        named = ", ".join(f"{run.run_id} ({run.state_or_damaged()})" for run in left)
        print(f"{len(left)} of {len(sweep.configs)} runs did not finish: {named}", file=sys.stderr)
    return max(ended.values(), default=0)


def _by_hydra(sweep: Sweep, argv: list[str]) -> dict[int, int]:
    """Let Hydra show what it is asked for, or run the jobs; return their exit codes by their number."""
    labels[:], codes[:], sys.argv[1:] = sweep.labels, [], argv
    if sweep.queue:
        print(f"what the jobs print is in {sweep.queue.folder}; Ctrl-C here leaves them alone", flush=True)
        # Where Slurm keeps no accounts, submitit says so again and again, and looks for results all the same.
        logging.getLogger("submitit").setLevel(logging.ERROR)
    if len(sweep.configs) > 1:
        cache.make(cache.cache_directory(sweep.configs[0].runtime.cache) / "sweeps")  # of conf/config.yaml
    try:
        job()
    except (UserError, OSError):
        raise
    except RuntimeError as error:  # a launcher that is not to be had here, or has lost a job
        print(f"error: hydra/launcher: {str(error).partition(os.linesep)[0]}", file=sys.stderr)
    except Exception as error:  # of Hydra's own settings, which have no schema of ours
        raise UserError(mistakes.hydras_words(error)) from None
    if codes:
        return dict(enumerate(codes))
    # A launcher such as submitit's runs the jobs elsewhere: then the run directories tell.
    states = [RunDirectory.of(config).state_or_damaged() for config in sweep.configs]
    return {n: 0 if state in ENDED else jobs.FAILED for n, state in enumerate(states)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
