"""A text that needs no download: 6,000,000 bytes of words over 16 letters.

An order-2 Markov chain, 1.75 bits a letter at most, made by integer arithmetic alone, so that it is the same on
every platform.
"""

import numpy as np
import numpy.typing as npt

LINES, LINE = 6000, 1000  # the test split holds 2,048 windows of 128 bytes


def text() -> npt.NDArray[np.uint8]:
    """Generate the text: LINES lines of LINE bytes."""
    alphabet = np.frombuffer(b"abcdefghijklmnop ", dtype=np.uint8)
    space = len(alphabet) - 1
    random = np.random.Philox(key=np.zeros(2, dtype=np.uint64))
    # Four successors for each pair of symbols, taken with probability 1/2, 1/4, 1/8, 1/8.
    successors = random.random_raw((space + 1, space + 1, 4)) % np.uint64(space)
    successors[:space, :space, 1] = space  # a word may end from its second letter on
    slots = np.repeat([0, 1, 2, 3], [128, 64, 32, 32])
    draws = slots[random.random_raw(LINES * LINE // 8).astype("<u8").view(np.uint8).reshape(LINE, LINES)]
    made = np.full((LINES, LINE), ord("\n"), dtype=np.uint8)
    before = last = np.full(LINES, space)
    for position in range(LINE - 1):  # all lines at once
        before, last = last, successors[before, last, draws[position]].astype(np.intp)
        made[:, position] = alphabet[last]
    return made.reshape(-1)
