"""Get enwik8 (the first 10^8 bytes of an English Wikipedia dump) and trust no byte that was not hashed.

The hash is always taken over the decoded bytes, whatever they were wrapped in and wherever they came
from, and again every time the file is opened (0.1 s): there is no marker to go stale. That is why
the official archive's own hash is not checked as well. Where it comes from is in `enwik8_sources`.
"""

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO

import filelock

from mhc_repro.corpora.enwik8_sources import SOURCES
from mhc_repro.corpora.texts import TEXTS
from mhc_repro.errors import UserError
from mhc_repro.paths import expanded

SIZE = 100_000_000
SHA256 = TEXTS["enwik8"].sha256
_BROKEN = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


def fetch(given: str | None, cache: Path, option: str = "runtime.enwik8=") -> Path:
    """Return the path of a verified plain enwik8 in `cache`, fetching it if need be.

    Raises UserError when `given`, which the user named by `option`, is absent or wrong, when nothing can be
    reached, and when the cache cannot be written.
    """
    source = None if given is None else _verified(given, option)
    target = cache / "enwik8"
    if fault(target) is None:
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache), _scratch(cache) as scratch:
            found = fault(target)
            if found is None:
                return target  # another process was faster
            if target.exists():
                _say(f"warning: the cached {target} is broken ({found}); fetching it again")
            partial = scratch / "enwik8"
            if source is None:
                _first_that_works(scratch, partial)
            else:
                _unpack(source, partial)
            os.replace(partial, target)
    except OSError as error:
        raise UserError(
            f"cannot write to the cache {cache} ({_reason(error)}); "
            "choose a folder with runtime.cache=/path or MHC_REPRO_CACHE=/path"
        ) from error
    _say(f"verified and kept in {target}")
    return target


def fault(path: Path) -> str | None:
    """Say what is wrong with a plain copy of enwik8, None if every byte is right."""
    try:
        size = path.stat().st_size
        if size != SIZE:
            return f"{size:,} bytes instead of {SIZE:,}"
        with path.open("rb") as stream:
            _verify(stream)
    except (OSError, ValueError) as error:
        return _reason(error)
    return None


def _verified(given: str, option: str) -> Path:
    path = expanded(given)
    try:
        _unpack(path, None)
    except _BROKEN as error:
        raise UserError(
            f"{option}{given}: {_reason(error)}; give a true copy of enwik8 (plain, .gz or .zip), "
            "or leave it out to download it"
        ) from error
    return path


def _first_that_works(scratch: Path, partial: Path) -> None:
    failures = []
    for name, download in SOURCES:
        _say(f"fetching {name} (36 MB)")
        try:
            _unpack(download(scratch), partial)
        except _BROKEN as error:
            failures.append(f"{name}: {_reason(error)}")
            _say(f"failed: {_reason(error)}")
        else:
            return
    raise UserError(
        f"enwik8 could not be fetched [{'; '.join(failures)}]; use a copy that you have with "
        "runtime.enwik8=/path/to/enwik8 (plain, .gz or .zip), or generated text with data=synthetic"
    )


def _unpack(source: Path, target: Path | None) -> None:
    """Write what `source` decodes to into `target` (None: only look); ValueError unless it is enwik8."""
    with _decoded(source) as stream, target.open("wb") if target else nullcontext() as file:
        _verify(stream, file)


@contextmanager
def _decoded(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(file) as stream:
                yield stream  # type: ignore[misc]
        elif magic == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                names = [name for name in archive.namelist() if PurePosixPath(name).name == "enwik8"]
                if not names:
                    raise ValueError("no member called enwik8 in the zip")
                with archive.open(names[0]) as stream:
                    yield stream
        else:
            yield file


def _verify(stream: IO[bytes], sink: IO[bytes] | None = None) -> None:
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(1 << 20):
        size += len(chunk)
        if size > SIZE:
            raise ValueError(f"more than {SIZE:,} bytes")
        digest.update(chunk)
        if sink is not None:
            sink.write(chunk)
    if size != SIZE:
        raise ValueError(f"{size:,} bytes instead of {SIZE:,}")
    if digest.hexdigest() != SHA256:
        raise ValueError(f"sha256 {digest.hexdigest()[:12]}... instead of {SHA256[:12]}...")


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    lock = filelock.FileLock(cache / "enwik8.lock")
    try:
        lock.acquire(timeout=0.5)
    except filelock.Timeout:
        _say("another process is fetching it; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    # One fixed name, used under the lock: what a killed process leaves behind is cleared by the next.
    folder = cache / "enwik8.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return text if 0 < len(text) <= 100 else type(error).__name__


def _say(text: str) -> None:
    print(f"enwik8: {text}", file=sys.stderr, flush=True)
