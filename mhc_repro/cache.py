"""Folders that a person names, and the cache: data set and checkpoints, outside the checkout, shared by all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from mhc_repro.errors import UserError

KERNELS = "TORCHINDUCTOR_CACHE_DIR"  # where torch's compiler keeps what it made; a user's own is taken first
VARIABLE = "MHC_REPRO_CACHE"


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` written out; UserError where nobody is called so or has a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder here; write the path out") from None


def cache_directory(given: str | None) -> Path:
    """Return `given` (runtime.cache), else $MHC_REPRO_CACHE, else the platform's user cache, made or not.

    Who has no home that can be written, as in many containers, gets a temporary folder.
    """
    if chosen := given or os.environ.get(VARIABLE):
        return expanded(chosen).absolute()
    with suppress(RuntimeError):  # there is no home at all
        folder = Path(platformdirs.user_cache_dir("mhc-repro", appauthor=False))
        if folder.is_absolute() and can_be_written(folder):
            return folder
    return Path(tempfile.gettempdir(), f"mhc-repro-{os.getuid()}")


def can_be_written(folder: Path) -> bool:
    """Say whether a folder can be written, or made where it is not there."""
    with suppress(OSError):  # of a folder that may not be looked into
        return os.access(nearest(folder), os.W_OK | os.X_OK)
    return False


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the first above it that is there, if only as a link to nothing."""
    return next(each for each in (folder, *folder.parents) if each.exists() or each.is_symlink())


def make(folder: Path) -> None:
    """Make a folder in the cache; UserError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "cannot be written")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; choose a folder with runtime.cache=") from None
