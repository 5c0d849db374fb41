"""Where what is drawn at random starts: for each purpose a stream of its own.

A seed is a pure function of the purpose, the run's seed and, where it is drawn anew at each, the step. So runs of
one seed are paired: what an arm draws moves nothing that it shares with others, the body's first weights and the
masks of dropout. And a resumed run has no generator to restore. Batches are as pure, of Philox (`corpora/data.py`).
"""

import hashlib


def stream_seed(*key: int | str) -> int:
    """Derive an independent 63-bit seed for one purpose, e.g. ("dropout", seed, step)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
