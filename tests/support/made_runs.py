"""Make synthetic run directories: the committed fixture, and larger ones to look at figures with.

`python tests/support/made_runs.py` rewrites `tests/support/fixture/`. The numbers are drawn from
formulas that look like training and are nobody's result.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mhc_repro.config import Config, ConnectionConfig, DataConfig
from mhc_repro.runs import PROTOCOL_VERSION, RunDirectory, Table, files, identity
from mhc_repro.schema import GAINS

ROOT = Path(__file__).parent / "fixture"
STREAMS = {"baseline": 1, "identity": 4, "hc": 4, "mhc": 4}
BACKWARD_DRIFT = {"hc": 1.0, "mhc": 0.02}
LATE_LOSS = {"baseline": 2.35, "identity": 2.37, "hc": 2.33, "mhc": 2.36}


def make_run(
    root: Path,
    arm: str,
    seed: int = 0,
    *,
    study: str = "fixture",
    steps: int = 160,
    blocks: int = 2,
    every: int = 20,
    drift: float = 1.0,
    diverges: int | None = None,
    stops: int | None = None,
    dead: bool = False,
    spike: int | None = None,
    lr: float = 3e-3,
    commit: str = "0123456789abcdef0123456789abcdef01234567",
) -> Path:
    """Write one run; `drift` scales how far HC's composite gain grows, `stops` leaves it interrupted."""
    config = Config(seed=seed, study=study)
    config.connection = ConnectionConfig(name=arm, kind="streams" if arm != "baseline" else "residual")
    config.connection.n = STREAMS.get(arm, 4)
    config.data = DataConfig(name="synthetic", sha256="0" * 64, batch=4, sequence=16)
    config.model.blocks, config.model.dim = blocks, 32
    config.optim.lr, config.train.steps, config.probe.every = lr, steps, every
    config.train.val_every = max(40, steps // 10)
    folder = root / study / identity.run_id(config)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written = yaml.safe_dump(identity.resolved(config), sort_keys=False)
    files.write_bytes(folder / "config.yaml", written.encode())

    last = diverges or stops or steps
    shared = np.random.default_rng([seed])  # the batch's own difficulty: the same for every arm
    own = np.random.default_rng([seed, *arm.encode()])
    batch, noise = shared.normal(0, 0.06, steps + 1), own.normal(0, 0.01, steps + 1)
    metrics, gains, tokens = (Table(folder, name) for name in ("metrics", "gains", "tokens"))
    tokens.append({"step": 0, "layer": 1, "h_res": [1.0]})
    for step in range(last + 1):
        done = step / steps
        loss = LATE_LOSS.get(arm, 2.4) + 3.2 * np.exp(-done * 18) + 0.3 * (1 - done)
        loss += batch[step] + noise[step]
        loss += 3.0 if step == spike else 0.0
        row: dict[str, Any] = {"step": step}
        if step:
            body = (0.5 + 2 * np.exp(-done * 20)) * np.exp(5 * batch[step] + 10 * noise[step])
            row |= {
                "loss/train": float("nan") if step == diverges else round(loss, 4),
                "grad/norm": float("inf") if step == diverges else round(body * 1.1, 4),
                "grad/norm_body": round(body, 4),
                "grad/norm_connection": 0.0 if arm == "baseline" else round(0.1 * body, 4),
                "grad/clipped": float("nan") if step == diverges else round(min(body * 1.1, 1.0), 4),
                "lr": lr,
                "time/step": {"baseline": 0.02, "hc": 0.025}.get(arm, 0.03),
            }
        if step % every == 0 or step == last:
            layers = [_gains(arm, layer, 2 * blocks, done, drift, dead) for layer in range(1, 2 * blocks + 1)]
            for layer, values in enumerate(layers, start=1):
                gains.append({"step": step, "layer": layer, **values})
            row |= {f"gain/{name}": max(values[name] for values in layers) for name in GAINS}
            growth = {"baseline": 20.0, "hc": 200.0 * drift}.get(arm, 30.0)
            row |= {"gain/activation": round(1.5 + growth * done + 100 * noise[step] * done, 4)}
            row |= {"streams/spread": 0.0 if dead else 0.5 * done, "time/probe": 0.05}
        if step % config.train.val_every == 0 or step == last:
            val = loss - batch[step] + 0.02
            row |= {"loss/val": round(val, 4), "bpc/val": round(val / np.log(2), 4)}
        if step == last == steps:
            row |= {"loss/test": round(val + 0.01, 4), "bpc/test": round((val + 0.01) / np.log(2), 4)}
        metrics.append(row)
    machine = {"device": "cpu", "threads": 1, "compile": False, "torch": "0.0.0", "cpu": "no machine"}
    manifest = {
        "run_id": folder.name,
        "protocol_version": PROTOCOL_VERSION,
        "commit": commit,
        "dirty": False,
        "diff_sha256": None,
        "versions": {"python": "3.11.0", "torch": "0.0.0", "numpy": "0.0.0"},
        "fingerprint": machine,
        "nature": {"doubly_stochastic": arm in ("mhc", "identity"), "exchangeable": False},
        "data_sha256": "0" * 64,
        "parameters": {"body": 1000, "connection": 0 if arm == "baseline" else 50, "total": 1050},
        "sessions": [{"started": "2000-01-01T00:00:00+00:00", "commit": commit, "from_step": 0}],
        "exact": True,
    }
    files.write_json(folder / "manifest.json", manifest)
    if stops is None:
        RunDirectory(folder).finish_tables()
    ended = "diverged" if diverges else "interrupted" if stops else "finished"
    status = {"status": ended, "step": last, "steps": steps, "message": ""}
    told = {"wall_seconds": 4.2, "updated": "2000-01-01T00:00:00+00:00"}
    files.write_json(folder / "status.json", status | told)
    return folder


def _gains(arm: str, layer: int, layers: int, done: float, drift: float, dead: bool) -> dict[str, Any]:
    """Gains that grow along the depth: forward with the layers passed, backward with those to come."""
    # largest after four fifths of the run, then a little less
    rate = BACKWARD_DRIFT.get(arm, 0.0) * drift * min(done, 1.2 - 0.5 * done)
    wave = 1 + 0.3 * np.sin(layer)
    n = STREAMS.get(arm, 4)
    exact = 1.0 + 1e-7 * (arm == "mhc")
    values = {
        "single_forward": 1 + rate * 0.3 * wave if arm == "hc" else exact,
        "single_backward": 1 + rate * 0.3 * wave,
        "composite_forward": float(np.exp(rate * 0.3 * layer)) if arm == "hc" else exact,
        "composite_backward": float(np.exp(rate * 0.3 * (layers + 1 - layer)) * wave) if rate else 1.0,
    }
    values = {name: float(round(value, 8)) for name, value in values.items()}
    off = 0.0 if arm == "identity" or n == 1 else 0.1 * done  # a matrix that leaves I as it learns
    h_single = (1 - off) * np.eye(n) + off / n
    return {
        **values,
        "spread": 0.0 if dead else 0.5 * done,
        "distance_identity": float(np.linalg.norm(h_single - np.eye(n))),
        "distance_uniform": float(np.linalg.norm(h_single - 1 / n)),
        **dict.fromkeys(("row_error", "column_error"), 0.0),
        "gate_slope": 1.0,
        "h_single": h_single.ravel().tolist(),
        "h_forward": np.eye(n).ravel().tolist(),
    }


def make_fixture(root: Path = ROOT) -> None:
    """Write the committed set: a finished baseline, an HC that diverges, an mHC whose streams never separate."""
    make_run(root, "baseline", spike=150)
    make_run(root, "hc", diverges=130)
    make_run(root, "mhc", dead=True)


if __name__ == "__main__":
    make_fixture(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
