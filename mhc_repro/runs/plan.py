"""What a study will do before it does it: which runs are finished, which are to do, and for how long.

The time comes from the steps of earlier runs on such a device, this machine's if there are any: of the same
connection, model and batch as they are, otherwise scaled by body parameters x tokens from those nearest in it,
where another arm counts as a quarter more or less.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from math import log, nan
from statistics import median
from typing import Any

from tabulate import tabulate

from mhc_repro.config import Config, block_weights
from mhc_repro.errors import UserError
from mhc_repro.places import LOCAL, RECORDED, checkout, results_root
from mhc_repro.runs.directory import DAMAGED, ENDED, RunDirectory
from mhc_repro.runs.identity import resolved
from mhc_repro.runs.manifest import cpu_model
from mhc_repro.runs.reader import Run, once, read_runs

DEFAULT_ROOTS = (RECORDED, LOCAL)
LEFT_ALONE = (*ENDED, "running", DAMAGED)
# in ln(work): an arm's step is 1.1 to 1.35 times a baseline's; any other setting counts a little, too
SAME_ARM, OTHER_ARM = 0.01, 0.25


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan; `seconds_left` is 0 when there is nothing to do and None when nobody can say."""

    run_id: str
    study: str
    state: str
    step: int
    steps: int
    seconds_left: float | None


def plan(configs: Sequence[Config]) -> list[Planned]:
    """Return the runs that `configs` stand for, each once, in the order given."""
    directories = {(run := RunDirectory.of(config)).path: (run, config) for config in configs}
    roots = dict.fromkeys(results_root(r) for r in (*(c.runtime.results for c in configs), *DEFAULT_ROOTS))
    earlier = [run for root in roots for run in read_runs(root) if _tells(run)]
    here = cpu_model()
    return [
        _planned(run, config, _on(config.runtime.device, here, earlier))
        for run, config in directories.values()
    ]


def table(planned: Sequence[Planned], how: str = "one after another") -> str:
    """Return the plan as text, the sum in its last line."""
    rows = [
        [one.run_id, one.study, one.state, f"{one.step}/{one.steps}", _left(one.seconds_left)]
        for one in planned
    ]
    body = tabulate(rows, ["run", "study", "state", "step", "time left"], disable_numparse=True)
    return f"{body}\n\n{summary(planned, how)}"


def summary(planned: Sequence[Planned], how: str = "one after another") -> str:
    """Return one line, such as `3 runs: 1 finished, 2 to do, about 1 h 54 min`."""
    states = Counter(one.state if one.state in LEFT_ALONE else "to do" for one in planned)
    parts = [f"{states[state]} {state}" for state in (*LEFT_ALONE, "to do") if states[state]]
    if states["to do"]:
        times = [one.seconds_left for one in planned if one.state not in LEFT_ALONE]
        known = [seconds for seconds in times if seconds is not None]
        after = f", {how}" if len(known) > 1 else ""
        parts.append(
            f"about {duration(sum(known))}{after}" if len(known) == len(times) else "time not known yet"
        )
    return f"{len(planned)} run{'s' * (len(planned) != 1)}: {', '.join(parts) or 'nothing to do'}"


def again(planned: Sequence[Planned], root: str) -> str:
    """Say how to train anew what is all done, beside it, and compare; empty while something is left to do."""
    if any(one.state not in ENDED for one in planned):
        return ""
    study, run = planned[0].study, planned[0].run_id
    if not (checkout() / "conf" / "study" / f"{study}.yaml").exists():
        return f"nothing to do; to train a run anew, delete its folder in {root}/{study}"
    beside = LOCAL if root != LOCAL else f"{LOCAL}/again"
    return (
        f"nothing to do; to train it anew and compare: make study STUDY={study} RESULTS={beside}, "
        f"then mhc-repro compare {root}/{study}/{run} {beside}/{study}/{run}"
    )


def duration(seconds: float) -> str:
    """Return a time for reading, such as `40 s`, `6 min` or `1 h 54 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _planned(run: RunDirectory, config: Config, earlier: list[Run]) -> Planned:
    if (state := run.state_or_damaged()) == DAMAGED:  # why it is, it says when its turn comes
        return Planned(run.run_id, config.study, state, 0, config.train.steps, 0.0)
    step = (run.read_status() or {}).get("step", 0)
    seconds = 0.0 if state in ENDED else _seconds(config, config.train.steps - step, earlier)
    return Planned(run.run_id, config.study, state, step, config.train.steps, seconds)


def _seconds(config: Config, steps: int, earlier: list[Run]) -> float | None:
    mine = resolved(config)
    by_distance: dict[float, list[Run]] = {}
    for run in earlier:
        by_distance.setdefault(_off(mine, run.config), []).append(run)
    # Tables of the nearest runs alone are read: hundreds take seconds.
    pools = ([_scaled(mine, run) for run in by_distance[off] if _pace(run)] for off in sorted(by_distance))
    nearest = next(filter(None, pools), None)
    if nearest is None:
        return None
    step, probe = map(median, zip(*nearest, strict=True))
    probes = steps / config.probe.every if config.probe.enabled else 0.0
    windows = config.train.val_windows * steps / config.train.val_every + config.train.test_windows
    forward = windows / config.data.batch / 3  # in steps, of which a forward pass is a third
    return (steps + forward) * step + probes * probe


def _off(mine: dict[str, Any], other: dict[str, Any]) -> float:
    """Say how little a run tells of another's time: 0 where their shapes are the same.

    A tiny net's step is overhead, which does not scale with its work, so distance in work counts most.
    """
    if _shape(mine) == _shape(other):
        return 0.0
    arm = mine["connection"]["name"] == other["connection"]["name"]
    return abs(log(_work(mine) / _work(other))) + (SAME_ARM if arm else OTHER_ARM)


def _on(device: str, here: str, earlier: list[Run]) -> list[Run]:
    """Keep the runs on `device` (as in runtime.device), those of the processor `here` if there are any."""
    kind = device.partition(":")[0]
    if kind == "auto":  # a GPU where there is one; to ask for it here would take torch
        kind = "cuda" if any(_machine(run) == ("cuda", here) for run in earlier) else "cpu"
    found = [run for run in earlier if _machine(run)[0] == kind]
    return [run for run in found if _machine(run)[1] == here] or found


def _machine(run: Run) -> tuple[str, str]:
    """Return the kind of device, cpu | mps | cuda, and the processor."""
    made = run.manifest["fingerprint"]
    device = made.get("device", "cpu")
    return device if device in ("cpu", "mps") else "cuda", made.get("cpu", "")  # a GPU goes by its model


def _tells(run: Run) -> bool:
    """Say whether a run has steps whose time would be that of one process."""
    made = run.manifest.get("fingerprint") or {}
    return bool(made) and "world_size" not in made and run.status.get("step", 0) > 0 and not run.own


@once
def _pace(run: Run) -> tuple[float, float] | None:
    """Return seconds per update and per probe."""
    try:
        medians = run.metrics[run.metrics.columns.intersection(["time/step", "time/probe"])].median()
    except UserError:
        return None  # a broken table: no reason to refuse a plan
    step, probe = medians.get("time/step", nan), medians.get("time/probe", nan)
    return (float(step), float(probe) if probe > 0 else 0.0) if step > 0 else None


def _scaled(mine: dict[str, Any], run: Run) -> tuple[float, ...]:
    """Scale the pace of a run, which has one, by the work of another config."""
    scale = _work(mine) / _work(run.config)
    return tuple(seconds * scale for seconds in _pace(run) or ())


def _shape(config: dict[str, Any]) -> tuple[Any, ...]:
    data = config["data"]
    return config["connection"], config["model"], data["batch"], data["sequence"], data["vocab"]


def _work(config: dict[str, Any]) -> float:
    """Return body parameters x tokens per step: proportional to the arithmetic of a step, near enough."""
    model, data = config["model"], config["data"]
    parameters = model["blocks"] * block_weights(model["dim"], model["mlp_ratio"])
    parameters += (data["vocab"] + data["sequence"]) * model["dim"]
    return float(parameters * data["batch"] * data["sequence"])


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return duration(seconds) if seconds else "-"
