"""The cache: data set and checkpoints, outside the checkout, shared by all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from mhc_repro.errors import UserError
from mhc_repro.paths import can_be_written, expanded

KERNELS = "TORCHINDUCTOR_CACHE_DIR"  # where torch's compiler keeps what it made; a user's own is taken first
VARIABLE = "MHC_REPRO_CACHE"


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


def make(folder: Path) -> None:
    """Make a folder in the cache; UserError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "cannot be written")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; choose a folder with runtime.cache=") from None
