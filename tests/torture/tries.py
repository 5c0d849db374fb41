"""All tries of all parts, mixed, on all cores, until a moment."""

import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

import commands
import damages
import disks
import kills
import victims
from mhc_repro.command_line import jobs
from mhc_repro.cores import cores
from outcomes import Task


def run(folder: Path, goals: Mapping[str, int], draw: random.Random, until: float) -> dict[str, Counter[str]]:
    """Make so many tries of each part; return how many ended how, by part. `until` is on the monotonic clock."""
    victims.prepare()
    warm = victims.Victim(folder / "warm", "mhc")
    jobs.train_here(warm.config)  # what is loaded and made at a first step alone
    wholes = {name: victims.Victim(folder / name, name) for name in victims.RUNS}
    for whole in wholes.values():
        whole.train()
    tasks = [
        *kills.tasks(folder, wholes, goals["kills"], draw),
        *disks.tasks(folder, wholes, goals["full disks"], draw),
        *damages.tasks(folder, wholes, goals, draw),
        *commands.tasks(folder, goals["command lines"], draw),
    ]
    draw.shuffle(tasks)  # so that the time left can be told
    return _count(tasks, goals, until)


def _count(tasks: Sequence[Task], goals: Mapping[str, int], until: float) -> dict[str, Counter[str]]:
    found = {part: Counter[str]() for part in goals}
    with ProcessPoolExecutor(cores(), get_context("fork")) as pool, tqdm(total=len(tasks)) as bar:
        parts = {pool.submit(task.run): task.part for task in tasks}
        try:
            for done in as_completed(parts, until - time.monotonic()):
                bar.update()
                for each in done.result():
                    found[parts[done]][each.ending] += 1
                    if each.fails:
                        bar.write(f"{parts[done]}: {each.ending}: {each.why}", sys.stderr)
        except TimeoutError:
            pool.shutdown(cancel_futures=True)
    return found
