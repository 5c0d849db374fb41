"""enwik8 as the enwik8 reproduction reads it: Unicode characters, numbered in the order of their code points.

Bytes that are not UTF-8 are dropped, as its `errors="ignore"` does; the symbols are those that occur.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

CODE_POINTS = 0x110000
PIECE = 1 << 22  # bytes decoded at a time: all code points of enwik8 at once would be 400 MB


def to_symbols(text: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint16], int]:
    """Return the characters of a UTF-8 text as numbers from 0, and how many different ones there are."""
    seen = np.zeros(CODE_POINTS, dtype=bool)
    for start, end in _pieces(text):
        seen[_code_points(text[start:end])] = True
    numbers = (np.cumsum(seen) - 1).astype(np.uint16)
    symbols = [numbers[_code_points(text[start:end])] for start, end in _pieces(text)]
    return np.concatenate(symbols), int(seen.sum())


def _pieces(text: npt.NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Cut before bytes that begin a character."""
    cuts = [0]
    while cuts[-1] < len(text):
        end = min(cuts[-1] + PIECE, len(text))
        while end < len(text) and end > cuts[-1] + 1 and text[end] & 0xC0 == 0x80:
            end -= 1
        cuts.append(end)
    return list(pairwise(cuts))


def _code_points(piece: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    text = piece.tobytes().decode("utf-8", errors="ignore")
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
