"""Folders that a person names, and the cache: data set and checkpoints, outside the checkout, shared by all."""

import os
from pathlib import Path

import platformdirs

from mhc_repro.errors import UserError

VARIABLE = "MHC_REPRO_CACHE"


def expanded(path: str) -> Path:
    """Return a path with `~` written out; UserError where nobody is called so or has a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: there is no such home folder here; write the path out") from None


def cache_directory(given: str | None) -> Path:
    """Return `given` (runtime.cache), else $MHC_REPRO_CACHE, else the platform's user cache, made or not."""
    chosen = given or os.environ.get(VARIABLE) or platformdirs.user_cache_dir("mhc-repro", appauthor=False)
    return expanded(chosen).absolute()


def make(folder: Path) -> None:
    """Make a folder in the cache; UserError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "cannot be written")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; choose a folder with runtime.cache=") from None
