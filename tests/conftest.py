"""What the rooms share: one thread, repeatable hypothesis, the arms as their YAML has them, tiny float64 bodies.

Torch is imported inside the fixtures: the tests of the analysis half must run, and be seen to run, without it.
"""

import functools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from fake_runs import fake, four, probed, published, runs, series  # noqa: F401
from mhc_repro import arm_files
from mhc_repro.config import Config, ConnectionConfig, DataConfig, ModelConfig, TrainConfig
from yaml_files import load

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # as in every run: see training/compiler.py

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("repeatable")

STREAMS_ARMS = ("identity", "hc", "mhc")  # what all arms must do is in support/arms_table.py
ARMS = ("baseline", *STREAMS_ARMS)
BODY = {"blocks": 2, "dim": 8, "heads": 2, "mlp_ratio": 2, "init_std": 0.3}

# Files of few tests that take long: begun last, they would go on when all else is done.
SLOW = (
    *("test_slurm", "test_torture", "test_torchrun", "test_notebooks", "test_parallel", "test_compiling"),
    *("test_compiler", "test_adapters"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow files first, then those of many tests: `make test` tells xdist to keep this order."""
    counts = Counter(item.path for item in items)

    def turn(item: pytest.Item) -> tuple[int, int]:
        name = item.path.stem
        return SLOW.index(name) if name in SLOW else len(SLOW), -counts[item.path]

    items.sort(key=turn)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test that asks for `arm` for every arm, one that asks for `streams_arm` for those with streams."""
    for name, arms in (("arm", ARMS), ("streams_arm", STREAMS_ARMS)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, arms)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Give every test one thread, whatever the one before set: sums in another order have other last bits."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield
    if torch:
        torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def connection() -> Callable[..., ConnectionConfig]:
    """connection("mhc", n=2): an arm's own YAML, with changes; the baseline has no n to change."""

    def make(arm: str, **changes: Any) -> ConnectionConfig:
        if arm == "baseline":
            changes.pop("n", None)
        return ConnectionConfig(**arm_files.settings(arm) | changes)

    return make


@pytest.fixture(scope="session")
def tiny(connection: Callable[..., ConnectionConfig]) -> Callable[..., Any]:
    """tiny("mhc", n=2): a seeded float64 model of 2 blocks x 8 over 17 symbols and 6 positions.

    `awake` moves every connection parameter off its start, so that each map depends on each token.
    """
    import torch

    from mhc_repro.training.model import make_model

    def make(
        arm: str,
        seed: int = 0,
        awake: float = 0.0,
        model: dict[str, Any] | None = None,
        precision: str = "float64",
        streams: str = "wide",
        **changes: Any,
    ) -> Any:
        config = Config(
            connection=connection(arm, **changes),
            model=ModelConfig(**BODY | (model or {})),
            data=DataConfig(vocab=17, sequence=6),
            train=TrainConfig(precision=precision, streams=streams),
        )
        made = make_model(config, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for _, parameter in made.connection_parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_((awake * noise).to(parameter.dtype))
        return made

    return make


@pytest.fixture(scope="session")
def synthetic_text() -> Callable[[], Any]:
    """Generate the synthetic corpus once: it would be most of the time of a run of a few steps."""
    from mhc_repro.corpora import synthetic

    return functools.cache(synthetic.text)


@pytest.fixture
def config(
    connection: Callable[..., ConnectionConfig],
    synthetic_text: Callable[[], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Config]:
    """config("hc", steps=3, n=2, optim={"lr": 1.0}): a run on synthetic data that takes milliseconds, in tmp_path.

    Settings are changed by their group; what is said of no group is the connection's.
    """
    from mhc_repro.corpora import synthetic

    monkeypatch.setattr(synthetic, "text", synthetic_text)

    settings: dict[str, dict[str, Any]] = {
        "model": BODY,
        "data": load("data", "synthetic") | {"batch": 2, "sequence": 6},
        "optim": {"lr": 1e-2},
        "train": {"precision": "float64", "val_every": 2, "val_windows": 3, "test_windows": 3},
        "probe": {"every": 2, "windows": 2, "token_maps": 3, "token_map_times": 2},
        "runtime": {
            "device": "cpu",
            "threads": 1,
            "compile": "off",
            "results": str(tmp_path / "results"),
            "cache": str(tmp_path / "cache"),
            "progress": "lines",
        },
    }

    def make(arm: str, seed: int = 0, steps: int = 4, **changes: Any) -> Config:
        own = {group: changes.pop(group, {}) for group in settings}
        made = Config(seed=seed, connection=connection(arm, **changes))
        for group, usual in settings.items():
            setattr(made, group, replace(getattr(made, group), **usual | own[group]))
        made.train.steps = steps
        return made

    return make
