"""Corpora as symbols (bytes, characters or tokens), and what is cut out of them.

Departs from custom: there is no loader with a position to save. A batch is a pure function of
(seed, step), so every arm sees the same data and a resumed run needs to remember only its step. It
uses the raw output of numpy's Philox, which numpy keeps stable; the distributions built on it may change.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from mhc_repro import world
from mhc_repro.cache import cache_directory
from mhc_repro.config import Config, DataConfig, RuntimeConfig
from mhc_repro.corpora import enwik8, given, synthetic
from mhc_repro.corpora.characters import to_symbols
from mhc_repro.corpora.joined import Joined
from mhc_repro.corpora.texts import GIVEN, cut
from mhc_repro.errors import UserError

Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | Joined


@dataclass(frozen=True, eq=False)
class Corpus:
    """Consecutive splits of a text: the first 90 %, the next 5 %, the last 5 %; shards come in splits.

    Of enwik8_characters, as in the reproduction it belongs to, all is trained on, held-out windows too.
    """

    train: Symbols
    val: Symbols
    test: Symbols
    sha256: str  # of the whole text; of shards and texts of one's own, their fingerprint
    tokens: bool = False
    lengths: npt.NDArray[np.int64] | None = None  # bytes of text in each token, where that is known


def open_corpus(config: DataConfig, runtime: RuntimeConfig) -> Corpus:
    """Open the corpus that `config` names; UserError if it cannot be had or has another hash."""
    if config.name in GIVEN:
        found = given.find(config)
        given.require(config, found.sha256)
        lengths = given.lengths(config.tokeniser, config.vocab)
        return Corpus(*found.splits(config.vocab), found.sha256, config.name == "tokens", lengths)
    if config.name == "synthetic":
        text = synthetic.text()
        digest = hashlib.sha256(text.data).hexdigest()
        given.require(config, digest)
        return Corpus(*cut(text), digest)
    given.require(config, enwik8.SHA256)
    path = enwik8.fetch(runtime.enwik8, cache_directory(runtime.cache))
    text = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    if config.name == "enwik8":
        return Corpus(*cut(text), enwik8.SHA256)
    characters, _ = to_symbols(text)
    return replace(Corpus(*cut(characters), enwik8.SHA256), train=characters)


class Batches:
    """The batches of a run on its device, whole or in the parts that its processes work off one after the other."""

    def __init__(self, config: Config, train: Symbols, device: torch.device) -> None:
        self.seed, self.data, self.own = config.seed, config.data, config.runtime.accumulate
        self.count = world.size() * self.own  # of parts
        self.train, self.device = train, device

    def whole(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the inputs (B, T) and the flat targets of a step."""
        inputs, targets = batch(self.train, self.seed, step, self.data.batch, self.data.sequence)
        if self.device.type == "cuda":  # only from such memory does a copy not wait
            inputs, targets = inputs.pin_memory(), targets.pin_memory()
        inputs, targets = (each.to(self.device, non_blocking=True) for each in (inputs, targets))
        return inputs, targets.flatten()

    def parts(self, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the batch of a step in its parts, of equal size."""
        return zip(*(each.chunk(self.count) for each in self.whole(step)), strict=True)

    def share(self, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the parts that are this process's."""
        return islice(self.parts(step), world.rank() * self.own, (world.rank() + 1) * self.own)


def batch(
    split: Symbols, seed: int, step: int, batch: int, sequence: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw (inputs, targets), int64 (batch, sequence), uniformly: a pure function of (seed, step)."""
    offsets = len(split) - sequence
    if offsets < 1:
        raise UserError(
            f"data.sequence={sequence} needs {sequence + 1:,} symbols and the split has {len(split):,}; "
            f"at most data.sequence={len(split) - 1}"
        )
    return _cut(split, _philox(seed, step).random_raw(batch) % np.uint64(offsets), sequence)


def windows(split: Symbols, count: int, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut fixed, evenly spaced windows that share no symbol: (inputs, targets), int64 (count, sequence)."""
    fit = len(split) // (sequence + 1)
    if count > fit:
        raise UserError(
            f"{count:,} windows of data.sequence={sequence} do not fit in a held-out split of {len(split):,} "
            f"symbols (at most {fit:,}); lower train.val_windows, train.test_windows or data.sequence"
        )
    return _cut(split, np.arange(count) * (len(split) // count), sequence)


def _philox(seed: int, step: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, step], dtype=np.uint64))


def _cut(split: Symbols, offsets: npt.NDArray, sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(split, Joined):
        rows = split.rows(offsets, sequence + 1)
    else:
        rows = np.lib.stride_tricks.sliding_window_view(split, sequence + 1)[offsets]
    rows = rows.astype(np.int64)
    return torch.from_numpy(rows[:, :-1].copy()), torch.from_numpy(rows[:, 1:].copy())
