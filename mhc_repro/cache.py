"""Where the data set and the checkpoints are kept: outside the checkout, shared by all of them."""

import os
from pathlib import Path

import platformdirs

VARIABLE = "MHC_REPRO_CACHE"


def cache_directory(given: str | None) -> Path:
    """Return `given` (runtime.cache), else $MHC_REPRO_CACHE, else the platform's user cache, made or not."""
    chosen = given or os.environ.get(VARIABLE) or platformdirs.user_cache_dir("mhc-repro", appauthor=False)
    return Path(chosen).expanduser().absolute()
