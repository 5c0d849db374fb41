"""Shards of tokens, whole and broken."""

from pathlib import Path

import numpy as np

MAGIC, VERSION = 20240520, 1


def write_shard(
    path: Path, tokens: np.ndarray, magic: int = MAGIC, version: int = VERSION, promised: int | None = None
) -> Path:
    """Write a header of 256 int32 and the tokens; `promised` is the number that the header says."""
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if promised is None else promised
    path.write_bytes(header.tobytes() + tokens.astype("<u2").tobytes())
    return path


def some_tokens(count: int, seed: int = 0, below: int = 50_257) -> np.ndarray:
    """Tokens of which small ones are frequent."""
    random = np.random.RandomState(seed)
    return (random.zipf(1.3, count) % below).astype(np.uint16)


def write_shards(folder: Path, train: tuple[int, ...] = (3000, 2001), val: int = 4000) -> Path:
    """Write a small folder as the hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, count in enumerate(train, 1):
        write_shard(folder / f"fineweb_train_{number:06}.bin", some_tokens(count, seed=number))
    write_shard(folder / "fineweb_val_000000.bin", some_tokens(val))
    return folder
