"""What an arm costs: step times beside the baseline's, first step and peak memory in a process of its own.

On a shared machine a step's time drifts by more than what is looked for. So every arm's turn is taken right
beside one of the baseline, in the other order each round, and only the ratio and the difference of such a
pair are used. What is timed is `Trainer.step`, the step that training makes.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from mhc_repro.bench import counts, machine, processes
from mhc_repro.config import Config
from mhc_repro.training import runtime
from mhc_repro.training.trainer import Trainer
from mhc_repro.words import duration

TURN_SECONDS = 0.5  # of the baseline's steps, at least one: shorter turns would time the clock's neighbours
WARM_UP = 2  # steps, the first of which compiles
MEMORY_STEPS = 3  # after which the allocator has all it will ask for


@dataclass(frozen=True)
class Alone:
    """One arm in a fresh process."""

    first_step_seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Times:
    """Seconds a step, a pair a round: (baseline, arm) of each arm; and the machine's peaks, one a round."""

    pairs: dict[str, list[tuple[float, float]]]
    sgemm: list[float]  # FLOPs a second
    copy: list[float]  # bytes a second, read and written
    fingerprint: dict[str, Any]
    parameters: dict[str, dict[str, int]]


def spread(values: Sequence[float], name: str) -> dict[str, float]:
    """Give the median under `name`, and the smallest and the largest value beside it."""
    return {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def ratios(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Compare an arm with the baseline, pair by pair: step_ratio, and extra_seconds a step."""
    return spread([arm / base for base, arm in pairs], "step_ratio") | spread(
        [arm - base for base, arm in pairs], "extra_seconds"
    )


def counted(config: Config) -> dict[str, int]:
    """Count FLOPs and bytes that the connection adds to a step."""
    shape = config.connection, config.model, config.data
    return {"extra_flops": counts.connection_flops(*shape), "extra_bytes": counts.connection_bytes(*shape)}


def measure(baseline: Config, arms: Mapping[str, Config], rounds: int) -> dict[str, Any]:
    """Measure arms, by their names, beside the baseline, one process at a time; return the record of it."""
    alone: dict[str, tuple[Alone, Alone]] = {}
    for number, (name, config) in enumerate({"baseline": baseline, **arms}.items(), start=1):
        to_stderr(f"{name}: first step and memory, in processes of its own ({number} of {len(arms) + 1})")
        call = partial(first_steps, config)
        with tempfile.TemporaryDirectory(prefix="mhc-bench-") as cache:  # empty for the first
            alone[name] = (processes.apart(call, cache), processes.apart(call, cache))
    times = processes.apart(partial(interleave, baseline, arms, rounds))
    return record(baseline, arms, times, alone)


def record(
    baseline: Config, arms: Mapping[str, Config], times: Times, alone: Mapping[str, tuple[Alone, Alone]]
) -> dict[str, Any]:
    """Make the record of a measurement from times and (cold, warm) processes."""
    flops = counts.model_flops(baseline.model, baseline.data)
    by_round = list(zip(*times.pairs.values(), strict=True))
    base = [statistics.median(pair[0] for pair in pairs) for pairs in by_round]
    seconds = spread(base, "step_seconds")
    utilisation = [flops / (s * peak) for s, peak in zip(base, times.sgemm, strict=True)]
    memory = alone["baseline"][1].peak_memory_bytes
    return {
        "fingerprint": times.fingerprint,
        "setting": {"model": asdict(baseline.model), "data": asdict(baseline.data)},
        "rounds": len(base),
        "baseline": {
            **seconds,
            "tokens_per_second": baseline.data.batch * baseline.data.sequence / seconds["step_seconds"],
            **spread(utilisation, "utilisation"),
            "model_flops": flops,
            "sgemm_flops_per_second": statistics.median(times.sgemm),
            "copy_bytes_per_second": statistics.median(times.copy),
            "peak_memory_bytes": memory,
            "first_step_seconds": alone["baseline"][0].first_step_seconds,
            "first_step_seconds_warm": alone["baseline"][1].first_step_seconds,
            "parameters": times.parameters["baseline"]["total"],
        },
        "connections": {
            name: {
                **ratios(times.pairs[name]),
                "peak_memory_ratio": alone[name][1].peak_memory_bytes / memory,
                "peak_memory_bytes": alone[name][1].peak_memory_bytes,
                "first_step_seconds": alone[name][0].first_step_seconds,
                "first_step_seconds_warm": alone[name][1].first_step_seconds,
                "params_added": times.parameters[name]["connection"],
                **counted(config),
            }
            for name, config in arms.items()
        },
    }


def to_stderr(text: str) -> None:
    """Say how far the bench is."""
    print(text, file=sys.stderr, flush=True)


def interleave(baseline: Config, arms: Mapping[str, Config], rounds: int) -> Times:
    """Time the arms' steps beside the baseline's, in this process, for so many rounds."""
    device, fingerprint = runtime.set_up(baseline.runtime, {})
    if fingerprint["compile"]:
        torch._dynamo.config.recompile_limit = 64  # counted per function, and arms share the function
    trainers: dict[str, Trainer] = {}
    for name, config in {"baseline": baseline, **arms}.items():
        to_stderr(f"{name}: warming up")
        trainers[name] = _trainer(config, device, fingerprint["compile"])
        for _ in range(WARM_UP):
            trainers[name].step()
    base = trainers.pop("baseline")
    steps = max(1, round(TURN_SECONDS / _turn(base, 1)))
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    sgemm, copy = [], []
    state = 4 * baseline.data.batch * baseline.data.sequence * baseline.model.dim
    state *= max(config.connection.n for config in arms.values())
    start = time.monotonic()
    for number in range(rounds):
        sgemm.append(machine.sgemm_peak(device))
        copy.append(machine.copy_peak(device, state))
        for name, trainer in trainers.items():
            if number % 2:
                after = _turn(trainer, steps)
                pairs[name].append((_turn(base, steps), after))
            else:
                pairs[name].append((_turn(base, steps), _turn(trainer, steps)))
        left = (time.monotonic() - start) / (number + 1) * (rounds - number - 1)
        to_stderr(f"round {number + 1} of {rounds}, {steps} steps a turn, eta {duration(left)}")
    parameters = {name: trainer.parameter_counts() for name, trainer in trainers.items()}
    return Times(pairs, sgemm, copy, fingerprint, parameters | {"baseline": base.parameter_counts()})


def first_steps(config: Config) -> Alone:
    """Train a few steps; return how long the first took and the peak memory of this process."""
    device, fingerprint = runtime.set_up(config.runtime, {})
    trainer = _trainer(config, device, fingerprint["compile"])
    start = time.perf_counter()
    trainer.step()
    first = time.perf_counter() - start
    for _ in range(MEMORY_STEPS - 1):
        trainer.step()
    cuda = device.type == "cuda"
    return Alone(first, torch.cuda.max_memory_reserved(device) if cuda else processes.peak_memory())


def _trainer(config: Config, device: torch.device, compiled: bool) -> Trainer:
    trainer = Trainer(config, device)
    if compiled:
        trainer.model.compile_connections()
    return trainer


def _turn(trainer: Trainer, steps: int) -> float:
    return statistics.median(trainer.step()["time/step"] for _ in range(steps))
