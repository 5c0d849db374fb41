"""What was composed says how the jobs of a multirun are run, however typed: by Hydra, side by side, by Slurm."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from mhc_repro.command_line import mistakes
from mhc_repro.errors import UserError
from mhc_repro.words import assignment, duration


class Queue(NamedTuple):
    """Slurm, as it is asked for a job for each run."""

    each: str  # what a job has
    folder: Path  # what a job prints is below it


def queue(job: DictConfig) -> Queue | None:
    """Return how Slurm is asked for the jobs; null where another launcher has them. Called behind `n_jobs`."""
    found = cast(dict[str, Any], OmegaConf.to_container(job.hydra.launcher, resolve=True))
    if not str(found["_target_"]).endswith(".SlurmLauncher"):
        return None
    gpus = found["gpus_per_task"] or found["gpus_per_node"]
    parts = [(gpus, "GPU"), (found["cpus_per_task"], "core")]
    has = [f"{count} {what}{'s' * (count != 1)}" for count, what in parts if count]
    minutes = f"{duration(60 * found['timeout_min'])} at a time"
    return Queue(", ".join([*has, minutes]), Path(found["submitit_folder"].partition("%")[0]))


def check_batches(sweeper: DictConfig) -> None:
    """Raise UserError where Hydra's sweeper would put no job in a batch."""
    size = sweeper.get("max_batch_size")
    if size is not None and (type(size) is not int or size < 1):
        line = assignment("hydra.sweeper.max_batch_size", size)
        raise UserError(f"{line}: must be null or 1 or more; for example hydra.sweeper.max_batch_size=null")


def n_jobs(job: DictConfig) -> int | None:
    """Return the n_jobs of hydra/launcher=joblib, all that is used of it; null of any other launcher."""
    try:
        launcher = cast(dict[str, Any], OmegaConf.to_container(job.hydra.launcher, resolve=True))
        if "n_jobs" not in launcher:
            return None
        usual = ConfigStore.instance().load("hydra/launcher/joblib.yaml").node
    except Exception as error:  # of Hydra's own settings, which have no schema of ours
        raise UserError(mistakes.hydras_words(error)) from None
    wanted = launcher.pop("n_jobs")
    if type(wanted) is not int or (wanted < 1 and wanted != -1):
        raise UserError(
            f"hydra.launcher.n_jobs={wanted}: must be 1 or more, or hydra.launcher.n_jobs=-1 (all cores)"
        )
    if job.hydra.job.env_set:
        raise UserError(
            "hydra.job.env_set: runs side by side have the environment of the command; set it there"
        )
    for key, value in launcher.items():
        if value != usual.get(key):
            line = assignment(f"hydra.launcher.{key}", value)
            raise UserError(
                f"{line}: only hydra.launcher.n_jobs can be set of runs side by side; leave it out"
            )
    return wanted
