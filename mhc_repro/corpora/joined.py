"""Files that are read as one array, end to end: mapped into memory, copied only where a window is cut out.

Equal arrays have equal fingerprints, whatever they are called, wherever they lie, however they are cut into files.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from mhc_repro.errors import UserError

# What a fingerprint looks at: all of an array of WHOLE symbols or fewer, of a longer one as many, in equal blocks
# at equal distances, from its first to its last symbol.
BLOCKS, BLOCK = 1024, 1 << 16
WHOLE = BLOCKS * BLOCK


@dataclass(frozen=True)
class Piece:
    """Symbols that lie one after the other in a file; `changed` is the file's time stamp."""

    path: Path
    dtype: str
    offset: int  # in bytes
    count: int
    changed: int

    def mapped(self) -> npt.NDArray:
        """Map the file into memory and return its symbols."""
        return np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, (self.count,)))


class Joined:
    """Arrays of one type, read as one."""

    def __init__(self, parts: Iterable[npt.NDArray], vocab: int = 2**16) -> None:
        self.vocab = vocab  # of a long array nobody has looked at every symbol
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)

    @classmethod
    def of(cls, pieces: Sequence[Piece], vocab: int = 2**16) -> Self:
        """Map the pieces of files into memory."""
        return cls((piece.mapped() for piece in pieces if piece.count), vocab)

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    def __getitem__(self, span: slice) -> "Joined":
        start, stop, _ = span.indices(len(self))
        begins = [int(end) - len(part) for end, part in zip(self.ends, self.parts, strict=True)]
        cut = (part[max(0, start - b) : max(0, stop - b)] for b, part in zip(begins, self.parts, strict=True))
        return Joined(cut, self.vocab)

    def read(self, start: int, count: int) -> npt.NDArray:
        """Copy `count` symbols from `start` on, across the ends of files."""
        index = int(np.searchsorted(self.ends, start, side="right"))
        found: list[npt.NDArray] = []
        while count > 0:
            part = self.parts[index]
            at = start - (int(self.ends[index]) - len(part))
            found.append(part[at : at + count])
            start, count, index = start + len(found[-1]), count - len(found[-1]), index + 1
        return np.concatenate(found)

    def rows(self, offsets: Iterable[int], length: int) -> npt.NDArray:
        """Copy a window of `length` symbols from each offset: (offsets, length). UserError beyond `vocab`."""
        found = np.stack([self.read(int(offset), length) for offset in offsets])
        if (largest := int(found.max())) >= self.vocab:
            raise UserError(
                f"data.vocab={self.vocab}: there is a symbol {largest:,}; use data.vocab={largest + 1}"
            )
        return found


@dataclass(frozen=True)
class Fingerprint:
    """What tells one array from another, and the largest symbol of what was looked at."""

    sha256: str
    largest: int


@lru_cache
def fingerprint(*splits: tuple[Piece, ...]) -> Fingerprint:
    """Hash the lengths of some splits and the blocks named above; a file is looked at anew when it has changed."""
    digest, largest = hashlib.sha256(), 0
    for split in map(Joined.of, splits):
        digest.update(f"{len(split)}\n".encode())
        for start in _starts(len(split)):
            block = split.read(start, min(BLOCK, len(split) - start))
            digest.update(block.data)
            largest = max(largest, int(block.max()))
    return Fingerprint(digest.hexdigest(), largest)


def _starts(length: int) -> list[int]:
    if length <= WHOLE:
        return list(range(0, length, BLOCK))
    return [index * (length - BLOCK) // (BLOCKS - 1) for index in range(BLOCKS)]
