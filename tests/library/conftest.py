"""A model trained under a monitor, for all tests of what the monitor does."""

from types import SimpleNamespace

import pytest

from mhc_repro import GainMonitor
from mhc_repro.runs import read_run
from own_models import train


@pytest.fixture
def watched(tmp_path):
    """watched(model, steps): train it under a monitor; return the run and the monitor."""

    def run(model, steps=6, every=2, forward=None, seed=0, **options):
        watching = model if forward is None else forward
        with GainMonitor(watching, every, tmp_path / "runs" / "mine", seed=seed, **options) as monitor:
            train(model, steps, monitor.step, forward, seed)
        return SimpleNamespace(run=read_run(monitor.path), monitor=monitor)

    return run
