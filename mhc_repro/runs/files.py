"""A file is there whole or not at all: written beside its place under another name, then renamed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mhc_repro.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path which takes the place of `path` when the block ends without an exception."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes it names
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Replace `path` by `parts`, one after the other, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` by indented JSON atomically."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in `path`, None when there is no file; UserError when it holds anything else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise broken(path, " ".join(str(error).split())) from None
    if not isinstance(value, dict):
        raise broken(path, "not a JSON object")
    return value


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed writer left half written; call it only while nobody else can write there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def broken(path: Path | str, fault: str) -> UserError:
    """Return the error for a file of a run that was edited or damaged from outside."""
    folder = Path(path).parent
    ours = any((folder / name).exists() for name in ("manifest.json", "status.json", "train.log"))
    mend = "delete the run's folder to train it again" if ours else f"is {folder} the folder of a run?"
    return UserError(f"{path}: {fault}; {mend}")
