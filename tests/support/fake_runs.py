"""Runs to analyse: the committed fixture, and runs made up in memory, of which some know more."""

from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mhc_repro.config import Config, ConnectionConfig
from mhc_repro.evidence.chosen import chosen, main_arms
from mhc_repro.evidence.comparison import Comparison, comparisons
from mhc_repro.evidence.verdicts import Verdict
from mhc_repro.runs import PROTOCOL_VERSION, Run, read_runs

HERE = Path(__file__).parent
_, HC, MHC = main_arms("published")
QUARTER = chosen().controls.quarter
RATIO = {"baseline": 21.0, HC: 22.0, MHC: 6.5, QUARTER: 6.4}  # of activations, in study published


@pytest.fixture
def runs() -> list[Run]:
    return read_runs(HERE / "fixture")


@pytest.fixture
def fake() -> Callable[..., Run]:
    """Make a run that was never on disk: its metric rows, and what differs from the default config.

    `bits` makes the rows of a run that began at 8 and ended there, or diverged where they are inf; `val`: its
    validation ended there.
    """
    numbers = count()

    def make(
        arm: str = "baseline",
        rows: list[dict[str, float]] | None = None,
        *,
        seed: int = 0,
        study: str = "made-up",
        state: str = "finished",
        step: int = 60,
        status: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        gains: list[dict[str, float]] | None = None,
        bits: float | None = None,
        val: float | None = None,
        verdict: Verdict = Verdict(),  # noqa: B008
        **options: Any,
    ) -> Run:
        config = Config(seed=seed, study=study, connection=ConnectionConfig(name=arm))
        config.train.steps = 60
        for dotted, value in options.items():
            group, _, key = dotted.partition("__")
            setattr(getattr(config, group), key, value)
        if bits is not None:
            rows = [
                {"step": 0, "bpc/val": 8.0},
                {"step": 60, "bpc/test": bits, "bpc/val": bits if val is None else val},
            ]
            state = "diverged" if bits == np.inf else state
        filled = {"protocol_version": PROTOCOL_VERSION, "commit": "abcdef0123", "dirty": False}
        run = Run(
            Path("results") / study / f"{arm}-s{seed}-{next(numbers):08x}",
            {key: value for key, value in asdict(config).items() if key != "runtime"},
            filled | (manifest or {}),
            {"status": state, "step": step, "steps": 60} | (status or {}),
            state,
        )
        run.__dict__["metrics"] = pd.DataFrame([{"step": 0}] if rows is None else rows or {"step": []})
        run.__dict__["gains"] = pd.DataFrame(gains if gains is not None else [{"step": 0, "layer": 1}])
        run.__dict__["verdict"] = verdict
        return run

    return make


@pytest.fixture
def probed(fake: Callable[..., Run]) -> Callable[..., Run]:
    """Make a run out of H_res (L, tokens, n, n) by the probe's own code, all tokens kept."""
    import torch

    from mhc_repro.measurement.gains import gain_rows

    def make(h: np.ndarray, arm: str = "hc", step: int = 60, seed: int = 0) -> Run:
        gains = [{"step": step, **row} for row in gain_rows(torch.from_numpy(h))]
        run = fake(arm, gains=gains, seed=seed, connection__n=h.shape[-1])
        kept = [{"step": step, "layer": layer, "h_res": each.ravel()} for layer, each in enumerate(h, 1)]
        run.__dict__["tokens"] = pd.DataFrame(kept)
        return run

    return make


@pytest.fixture
def published(fake: Callable[..., Run]) -> Callable[..., Run]:
    """Make a run of study published: losses on shared batches, connections without a gradient in the mHC arm."""

    def make(arm: str, gap: float = 0.0, **options: object) -> Run:
        batch = np.random.default_rng(0).normal(3, 0.1, 61)
        dead = arm == MHC
        rows = [{"step": 0, "streams/spread": 0.0}]
        for step in range(1, 61):
            own = 0.0 if dead or arm in ("baseline", QUARTER) else 0.5
            norms = {"grad/norm": 2.0, "grad/norm_body": 2.0, "grad/norm_connection": own}
            rows.append({"step": step, "loss/train": batch[step] + gap, **norms})
            if step % 20 == 1:
                ratio = RATIO.get(arm, 1.0) + step
                rows[-1] |= {"gain/activation": ratio, "streams/spread": 1e-8 * (not dead)}
        streams = 1 if arm in ("baseline", QUARTER) else 2
        h = np.full((2, 2), 0.5) if dead else np.array([[1.0, 0.1], [0.1, 1.0]])
        gains = [
            {"step": step, "layer": layer, "h_single": h.ravel()[: streams**2]}
            for step in (0, 60)
            for layer in (1, 2)
        ]
        return fake(arm, rows, study="published", gains=gains, connection__n=streams, **options)

    return make


@pytest.fixture
def four(published: Callable[..., Run]) -> Comparison:
    arms = [published("baseline", 0.2), published(HC), published(MHC), published(QUARTER, 1e-6)]
    (found,) = comparisons(arms)
    return found


@pytest.fixture
def series(fake: Callable[..., Run]) -> Callable[..., list[Run]]:
    """Make runs of an arm that ended at `bits`, none where that is None; of options in a row each has its own."""

    def make(arm: str, *bits: float | None, **options: Any) -> list[Run]:
        in_a_row = {key: of for key, of in options.items() if isinstance(of, tuple | range)}
        return [
            fake(arm, bits=each, **options | {key: of[at] for key, of in in_a_row.items()})
            for at, each in enumerate(bits)
            if each is not None
        ]

    return make


def held_by(study: str, run: Run) -> Run:
    """The same run as another study holds it."""
    config = {**run.config, "study": study}
    copy = Run(run.path.parents[1] / study / run.run_id, config, run.manifest, run.status, run.state)
    copy.__dict__["metrics"] = run.metrics
    return copy
