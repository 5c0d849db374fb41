"""Train one run, or the runs of a multirun or study; what is finished is skipped, what was stopped goes on.

    python experiments/train.py connection=mhc seed=1 train.steps=100
    python experiments/train.py -m connection=baseline,hc,mhc seed=0,1,2
    python experiments/train.py study=stability

Exit codes: 0 all runs finished or diverged, 1 one failed or another process has it, 2 a mistake of the user's,
130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

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

from mhc_repro import cache
from mhc_repro.command_line import compose, inspection
from mhc_repro.command_line.entry import INTERRUPTED, MISTAKE, exit_code, pass_on
from mhc_repro.cores import cores
from mhc_repro.errors import UserError
from mhc_repro.runs import ENDED, RunDirectory, plan, read_run
from mhc_repro.training import stops

REFUSED = "refused"
CODES = {"finished": 0, "diverged": 0, REFUSED: MISTAKE, "interrupted": INTERRUPTED}
typed: list[str] = []  # the command line; joblib's processes get a copy of it, not of sys.argv
statuses: list[str] = []  # of the jobs that ran in this process


@hydra.main(version_base="1.3", config_path=str(compose.CONF), config_name=compose.NAME)
def job(composed: DictConfig) -> None:
    """Train one job; an interrupt ends the whole multirun, anything else lets the next job run."""
    settings = HydraConfig.get()
    jobs = settings.launcher.get("n_jobs", 1)  # of a parallel launcher; -1 is one for each core
    if jobs != 1:
        stops.listen()
    from mhc_repro.training import runtime  # torch is slow to import, a wrong command line should not wait
    from mhc_repro.training.loop import train

    if stops.requested():
        return
    os.environ[runtime.CONCURRENT] = str(jobs if jobs > 0 else cores())
    if settings.mode == RunMode.MULTIRUN:
        swept = [line for line in settings.overrides.task if line not in typed]
        print(f"job {settings.job.num + 1}: {' '.join(swept)}", file=sys.stderr, flush=True)
    try:
        config = compose.to_config(composed)
        statuses.append(train(config))
        if statuses[-1] in ENDED:
            for word, meaning in inspection.findings(read_run(RunDirectory.of(config).path)):
                print(f"{word}: {meaning}", file=sys.stderr)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        statuses.append(REFUSED)
    if statuses[-1] == "interrupted" and jobs == 1:  # a parallel launcher would kill the others as they save
        sys.exit(stops.exit_code())


def main(argv: list[str]) -> int:
    """Check the whole command line, show the plan of a multirun, run it; return the exit code."""
    argv = compose.flag_first(argv)
    code = exit_code(lambda: _run(argv), unread=1)
    return stops.exit_code() if code == INTERRUPTED else code


def _run(argv: list[str]) -> int:
    typed[:], statuses[:] = argv, []
    stops.forget()
    configs = compose.check_command_line(argv)
    sys.argv[1:] = compose.limit_workers(argv, configs)
    if len(configs) > 1:
        cache.make(cache.cache_directory(configs[0].runtime.cache) / "sweeps")  # of conf/config.yaml
        planned = plan.plan(configs)
        print(plan.table(planned), end="\n\n", flush=True)
        if done := plan.again(planned, configs[0].runtime.results):
            print(done, flush=True)
    if "hydra/launcher=joblib" in argv:
        with stops.taken(pass_on):
            try:
                job()
            except Exception:
                if not stops.requested():  # else a process was stopped before it could listen
                    raise
    else:
        job()
    # A launcher such as joblib runs the jobs in other processes: then the run directories tell.
    ended = statuses if len(statuses) == len(configs) else [one.state for one in plan.plan(configs)]
    code = max((CODES.get(status, 1) for status in ended), default=0)
    return INTERRUPTED if code and stops.requested() else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
