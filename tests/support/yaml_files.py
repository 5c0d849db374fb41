"""What conf/ holds, read without Hydra."""

from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf"
ARM_NAMES = sorted(path.stem for path in CONF.glob("connection/*.yaml"))


def load(group: str, name: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
