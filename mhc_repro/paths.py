"""Paths as a person writes them, and what can be said of a folder before it is made."""

import os
from contextlib import suppress
from pathlib import Path

from mhc_repro.errors import UserError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` written out; UserError where nobody is called so or has a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder here; write the path out") from None


def real(path: Path) -> Path:
    """Return a path with its links followed; Path.resolve raises RuntimeError of a link to itself."""
    return Path(os.path.realpath(path))


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that is there, if only as a link to nothing."""
    return next(each for each in (folder, *folder.parents) if each.exists() or each.is_symlink())


def can_be_written(folder: Path) -> bool:
    """Say whether a folder can be written, or made where it is not there."""
    with suppress(OSError):  # of a folder that may not be looked into
        return os.access(nearest(folder), os.W_OK | os.X_OK)
    return False
