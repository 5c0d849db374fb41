"""How an arm's cost moves with dim, n and tokens, beside the time that its counted work needs.

Two blocks, since every sub-layer costs the same; each point in processes of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mhc_repro.bench import measure
from mhc_repro.config import Config

DIMS, STREAMS, TOKENS = (256, 512, 1024), (2, 4, 8), (0.25, 1, 4)  # tokens: times the protocol's batch
CENTRE = DIMS[0], STREAMS[1]  # dim and n where tokens vary
BLOCKS = 2

Compose = Callable[[str, list[str]], Config]  # arm, overrides


def grid(batch: int) -> list[tuple[int, int, int]]:
    """List the points (dim, n, batch): every dim with every n, and other batches at the centre."""
    points = [(dim, n, batch) for dim in DIMS for n in STREAMS]
    batches = sorted({max(1, round(factor * batch)) for factor in TOKENS} - {batch})
    return points + [(*CENTRE, size) for size in batches]


def scale(compose: Compose, arms: Sequence[str], rounds: int) -> dict[str, Any]:
    """Measure the arms at every point; return the record of it, a flat row for each arm and point."""
    points = []
    for dim, n, batch in grid(compose("baseline", []).data.batch):  # all before minutes go into the first
        body = [f"model.blocks={BLOCKS}", f"model.dim={dim}", f"data.batch={batch}"]
        configs = {arm: compose(arm, [*body, f"connection.n={n}"]) for arm in arms}
        points.append((dim, n, batch, compose("baseline", body), configs))
    found: dict[str, Any] = {}
    rows = []
    for number, (dim, n, batch, baseline, configs) in enumerate(points, start=1):
        measure.to_stderr(f"point {number} of {len(points)}: dim {dim}, n {n}, batch {batch}")
        found = measure.measure(baseline, configs, rounds)
        base = {f"baseline_{key}": value for key, value in found["baseline"].items()}
        for arm, numbers in found["connections"].items():
            place = {"connection": arm, "dim": dim, "n": n, "tokens": batch * baseline.data.sequence}
            rows.append(place | numbers | base | {"floor_ratio": floor(numbers, found["baseline"])})
    kept = {key: found[key] for key in ("fingerprint", "setting", "rounds")}
    return kept | {"points": rows}


def floor(numbers: dict[str, Any], baseline: dict[str, Any]) -> float:
    """Return the step ratio if an arm's counted FLOPs ran at sgemm's peak and its bytes at a copy's."""
    seconds = numbers["extra_flops"] / baseline["sgemm_flops_per_second"]
    seconds += numbers["extra_bytes"] / baseline["copy_bytes_per_second"]
    return 1 + seconds / baseline["step_seconds"]
