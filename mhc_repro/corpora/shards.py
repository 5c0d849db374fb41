"""Tokens as nanoGPT, llm.c and modded-nanogpt keep them on disk, two bytes each.

A shard is a header of 256 int32 (magic, version, number of tokens), then the tokens. nanoGPT's own `train.bin` and
`val.bin` are tokens alone: only files of these two names may lack a header.
"""

import struct
from pathlib import Path

from mhc_repro.corpora.joined import Piece
from mhc_repro.errors import UserError

MAGIC, VERSION = 20240520, 1
HEADER, TOKEN = 256 * 4, 2  # bytes
HEADERLESS = ("train.bin", "val.bin")
OTHERS = {20240801: " (which marks llm.c's tokens of four bytes)"}


def find(folder: Path) -> dict[str, list[Path]]:
    """Return the files of the splits `train` and `val`, told by their names; UserError where one has none."""
    files = sorted(path for path in folder.glob("*.bin") if path.is_file())
    val = [path for path in files if "val" in path.name]
    train = [path for path in files if "train" in path.name and path not in val]
    for split, found in (("train", train), ("val", val)):
        if not found:
            raise UserError(
                f"data.path={folder}: there is no *{split}*.bin; data=tokens reads a folder with both splits, such "
                "as fineweb_train_000001.bin and fineweb_val_000000.bin, or train.bin and val.bin"
            )
    return {"train": train, "val": val}


def inspect(path: Path) -> Piece:
    """Find the tokens of a file; UserError, in one line, where it is none of these or not whole."""
    with path.open("rb") as file:
        header = file.read(HEADER)
    magic, version, promised = struct.unpack("<3i", header[:12].ljust(12, b"\0"))
    if magic != MAGIC and path.name in HEADERLESS:
        return _piece(path, 0, None)
    if magic != MAGIC:
        raise _broken(
            path, f"starts with {magic}{OTHERS.get(magic, '')} instead of {MAGIC}, so it is no shard"
        )
    if version != VERSION:
        raise _broken(path, f"is of version {version}, and {VERSION} is the one that can be read")
    return _piece(path, HEADER, promised)


def _piece(path: Path, start: int, promised: int | None) -> Piece:
    status = path.stat()
    count, odd = divmod(status.st_size - start, TOKEN)
    if promised is not None and (count != promised or odd):
        raise _broken(path, f"holds {max(0, count):,} tokens instead of the {promised:,} of its header")
    if odd:
        raise _broken(path, f"has {status.st_size:,} bytes, and a token has two")
    return Piece(path, "<u2", start, count, status.st_mtime_ns)


def _broken(path: Path, fault: str) -> UserError:
    return UserError(f"{path}: {fault}; fetch it again, or take it out of the folder")
