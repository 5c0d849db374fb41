"""What one types for a run of experiments/train.py that takes milliseconds."""

from pathlib import Path

from mhc_repro.command_line.compose import CONF

SCRIPT = CONF.parent / "experiments" / "train.py"
TINY = [
    "data=synthetic",
    "model.blocks=1",
    "model.dim=16",
    "model.heads=2",
    "data.batch=2",
    "data.sequence=16",
    "train.steps=3",
    "train.val_windows=2",
    "train.test_windows=2",
    "probe.windows=4",
    "probe.every=2",
    "runtime.device=cpu",
    "runtime.threads=1",
    "runtime.compile=off",
]


def assert_no_litter(folder: Path) -> None:
    assert not list(folder.iterdir())
    assert not {"outputs", "multirun", ".hydra"} & {path.name for path in CONF.parent.iterdir()}
