"""A file is there whole or not at all, written beside its place and renamed; and JSON vouches for itself.

Every JSON file has as `sha256` the hash of all else in it, so that one changed bit is noticed when it is read.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mhc_repro import reading
from mhc_repro.errors import UserError

SEAL = "sha256"


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
    """Replace `path` by indented JSON and its seal atomically."""
    write_bytes(path, (json.dumps(value | {SEAL: seal(value)}, indent=2) + "\n").encode())


def read_json(path: Path, kind: Any = dict[str, Any]) -> dict[str, Any] | None:
    """Return the object in `path` without its seal, None when there is no file.

    UserError when it holds no `kind`, or something else than was written.
    """
    try:
        return opened(path, kind)
    except FileNotFoundError:
        return None
    except reading.Unfit as unfit:
        raise broken(path, str(unfit)) from None


def opened(path: Path, kind: Any = dict[str, Any]) -> dict[str, Any]:
    """Return the object in `path` without its seal; FileNotFoundError, or Unfit."""
    value: dict[str, Any] = reading.from_json(reading.read(path))
    reading.fit(value, kind)
    try:
        whole = value.pop(SEAL, None) == seal(value)
    except RecursionError:
        raise reading.Unfit("nested too deeply") from None
    if not whole:
        raise reading.Unfit("changed since it was written (by its sha256)")
    return value


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed writer left half written; call it only while nobody else can write there."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def broken(path: Path | str, fault: str) -> UserError:
    """Return the error for a file of a run that was edited or damaged from outside."""
    folder = Path(path).parent
    ours = any((folder / name).exists() for name in ("manifest.json", "status.json", "train.log"))
    mend = "restore it, or delete the run's folder to train it again"
    mend = mend if ours else f"is {folder} the folder of a run?"
    return UserError(f"{path}: {fault}; {mend}")


def seal(value: dict[str, Any]) -> str:
    """Return the hash of an object."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
