"""How long a run would take, judged by the steps of earlier ones.

They are runs on such a device, this machine's if there are any: of the same connection, model and batch as they
are, otherwise scaled by body parameters x tokens from those nearest in it, where another arm counts as a quarter
more or less.
"""

from math import log, nan
from statistics import median
from typing import Any

from mhc_repro.config import Config, block_weights
from mhc_repro.errors import UserError
from mhc_repro.runs.identity import resolved
from mhc_repro.runs.reader import Run, once

# in ln(work): an arm's step is 1.1 to 1.35 times a baseline's; any other setting counts a little, too
SAME_ARM, OTHER_ARM = 0.01, 0.25


def tells(run: Run) -> bool:
    """Say whether a run has steps whose time would be that of one process."""
    made = run.manifest.get("fingerprint") or {}
    return bool(made) and "world_size" not in made and run.status.get("step", 0) > 0 and not run.own


def on(device: str, here: str, earlier: list[Run]) -> list[Run]:
    """Keep the runs on `device` (as in runtime.device), those of the processor `here` if there are any."""
    kind = device.partition(":")[0]
    if kind == "auto":  # a GPU where there is one; to ask for it here would take torch
        kind = "cuda" if any(_machine(run) == ("cuda", here) for run in earlier) else "cpu"
    found = [run for run in earlier if _machine(run)[0] == kind]
    return [run for run in found if _machine(run)[1] == here] or found


def seconds(config: Config, steps: int, earlier: list[Run]) -> float | None:
    """Estimate how long a run takes from here on for so many steps; None where no earlier run tells."""
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


def _machine(run: Run) -> tuple[str, str]:
    """Return the kind of device, cpu | mps | cuda, and the processor."""
    made = run.manifest["fingerprint"]
    device = made.get("device", "cpu")
    return device if device in ("cpu", "mps") else "cuda", made.get("cpu", "")  # a GPU goes by its model


def _off(mine: dict[str, Any], other: dict[str, Any]) -> float:
    """Say how little a run tells of another's time: 0 where their shapes are the same.

    A tiny net's step is overhead, which does not scale with its work, so distance in work counts most.
    """
    if _shape(mine) == _shape(other):
        return 0.0
    arm = mine["connection"]["name"] == other["connection"]["name"]
    return abs(log(_work(mine) / _work(other))) + (SAME_ARM if arm else OTHER_ARM)


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
    return tuple(each * scale for each in _pace(run) or ())


def _shape(config: dict[str, Any]) -> tuple[Any, ...]:
    data = config["data"]
    return config["connection"], config["model"], data["batch"], data["sequence"], data["vocab"]


def _work(config: dict[str, Any]) -> float:
    """Return body parameters x tokens per step: proportional to the arithmetic of a step, near enough."""
    model, data = config["model"], config["data"]
    parameters = model["blocks"] * block_weights(model["dim"], model["mlp_ratio"])
    parameters += (data["vocab"] + data["sequence"]) * model["dim"]
    return float(parameters * data["batch"] * data["sequence"])
