"""Runs that have ended, in one file: from a machine that was lent to the one that keeps results.

A plain tar of `<study>/<run id>/`, since the tables in it are compressed already.
"""

import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mhc_repro.errors import UserError
from mhc_repro.paths import nearest
from mhc_repro.runs import files
from mhc_repro.runs.directory import ENDED, RunDirectory
from mhc_repro.runs.reader import read_run
from mhc_repro.schema import UNITS

FILES = ("config.yaml", "manifest.json", "status.json", "train.log", *(f"{name}.parquet" for name in UNITS))
LIMIT = 16 << 20  # bytes
BLOCK = 512  # of a tar; each file has one before it, and fills its last


def pack(runs: Sequence[RunDirectory], archive: Path, limit: int = LIMIT) -> list[RunDirectory]:
    """Write runs into an archive of `limit` bytes at most; return those that it has no room for, the last ones."""
    room = limit // tarfile.RECORDSIZE * tarfile.RECORDSIZE - 2 * BLOCK  # which end it
    left: list[RunDirectory] = []
    # Not the usual format, which gives each file another header.
    with (
        files.replacing(archive) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for run in runs:
            members = [path for name in FILES if (path := run.path / name).is_file()]
            size = sum(BLOCK + -(-path.stat().st_size // BLOCK) * BLOCK for path in members)
            if left or size > room:
                left.append(run)
                continue
            room -= size
            for path in members:
                tar.add(path, path.relative_to(run.path.parents[1]), filter=_nobodys)
    return left


def unpack(archive: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """Add the runs of an archive to a results root; return those that were added, and those that were there.

    UserError, and nothing is added, where one is not whole, has not ended, or has another of its id in its place.
    """
    # Beside the root where there is none yet, so that none is left where nothing is added.
    with tempfile.TemporaryDirectory(dir=nearest(root), prefix=".import-") as folder:
        try:
            with archive.open("rb") as file, tarfile.open(fileobj=file) as tar:
                tar.extractall(folder, filter="data")
                file.seek(-2 * BLOCK, os.SEEK_END)
                if any(file.read()):  # of which tarfile says nothing where a member has just ended
                    raise tarfile.ReadError("cut off")
        except (tarfile.TarError, OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0].rstrip(":")
            raise UserError(f"{archive}: {reason}; name an archive that make gpu has left") from None
        found = sorted(path for path in Path(folder).glob("*/*") if path.is_dir())
        if not found:
            raise UserError(f"{archive}: no run in it; name an archive that make gpu has left")
        places = {path: root / path.relative_to(folder) for path in found}
        known = [path for path, place in places.items() if _is_new(path, place, archive)]
        for path in known:
            places[path].parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, places[path])
    return [places[path] for path in known], [places[path] for path in found if path not in known]


def _is_new(path: Path, place: Path, archive: Path) -> bool:
    """Say whether a run is not there yet."""
    try:
        run = read_run(path)
    except UserError as fault:
        where = str(fault).replace(f"{path}", f"{place.parent.name}/{place.name}")
        raise UserError(f"{archive}: {where} there, and pack anew") from None
    if run.state not in ENDED or "tables" not in run.manifest:
        raise UserError(f"{archive}: {run.run_id} has not ended; pack it again when it has")
    if not place.exists():
        return True
    if (place / "manifest.json").is_file() and same(path, place):
        return False
    raise UserError(
        f"{place}: another run of this id is there, of another machine perhaps; choose another --root"
    )


def same(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same run: their manifests vouch for the tables."""
    return (one / "manifest.json").read_bytes() == (other / "manifest.json").read_bytes()


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
