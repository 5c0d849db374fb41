"""enwik8 as the enwik8 reproduction reads it: Unicode characters, numbered in the order of their code points.

Bytes that are not UTF-8 are dropped, as its `errors="ignore"` does; the symbols are those that occur.
"""

import codecs
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CODE_POINTS = 0x110000
PIECE = 1 << 22  # bytes decoded at a time: all code points of enwik8 at once would be 400 MB


def to_symbols(text: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint16], int]:
    """Return the characters of a UTF-8 text as numbers from 0, and how many different ones there are."""
    seen = np.zeros(CODE_POINTS, dtype=bool)
    for points in _code_points(text):
        seen[points] = True
    numbers = (np.cumsum(seen) - 1).astype(np.uint16)
    return np.concatenate([numbers[points] for points in _code_points(text)]), int(seen.sum())


def _code_points(text: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint32]]:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    for start in range(0, len(text), PIECE):
        piece = decoder.decode(text[start : start + PIECE].tobytes())
        yield np.frombuffer(piece.encode("utf-32-le"), dtype=np.uint32)
