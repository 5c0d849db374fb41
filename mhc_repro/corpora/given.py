"""Corpora that a person brings: any text as bytes (`data=text`), or shards of tokens (`data=tokens`).

A run is named by what they hold: `data.sha256` is their fingerprint, taken as the run is composed, and
`data.path` enters neither the id nor config.yaml. No torch here: a wrong path is said before it is loaded.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mhc_repro.config import DataConfig
from mhc_repro.corpora import shards
from mhc_repro.corpora.joined import Joined, Piece, fingerprint
from mhc_repro.corpora.texts import GIVEN, Text, cut
from mhc_repro.errors import UserError
from mhc_repro.paths import expanded

FILES = 10_000  # each is mapped for as long as a run goes on
GPT2 = 50_257  # its tokens; a model's vocabulary is often rounded up
LENGTHS = Path(__file__).with_name("gpt2_lengths.bin")  # bytes of text in each of them


@dataclass(frozen=True)
class Given:
    """The files behind `data.path`, by split; a text is one split, and cut later."""

    pieces: dict[str, tuple[Piece, ...]]

    @property
    def sha256(self) -> str:
        return fingerprint(*self.pieces.values()).sha256

    def splits(self, vocab: int = 2**16) -> tuple[Joined, Joined, Joined]:
        """Map train, val and test; of tokens, the halves of the validation shards are val and test."""
        joined = {name: Joined.of(of, vocab) for name, of in self.pieces.items()}
        if "text" in joined:
            return cut(joined["text"])
        held_out = joined["val"]
        half = len(held_out) // 2
        return joined["train"], held_out[:half], held_out[half:]

    def text(self) -> Text:
        """Say what validation asks of any corpus."""
        _, *held_out = self.splits()
        symbols = 256 if "text" in self.pieces else fingerprint(*self.pieces.values()).largest + 1
        return Text(self.sha256, symbols, min(map(len, held_out)))


def find(config: DataConfig) -> Given:
    """Look at the files of a corpus without reading them; UserError, in one line, for what cannot be read."""
    if config.path is None:
        wanted = {"text": "a file or a folder", "tokens": "a folder of shards (see mhc-repro data fineweb)"}
        raise UserError(
            f"data.path=null: data={config.name} reads what you have; name {wanted[config.name]} with data.path="
        )
    path = expanded(config.path).absolute()
    if not path.exists():
        raise UserError(f"data.path={config.path}: there is no such file or folder")
    if config.name == "tokens":
        pieces = {split: tuple(map(shards.inspect, files)) for split, files in shards.find(path).items()}
    else:
        pieces = {"text": tuple(map(_bytes, _texts(path)))}
    for split, of in pieces.items():
        if not any(piece.count for piece in of):
            raise UserError(f"data.path={config.path}: there is nothing to read in it ({split})")
    return Given(pieces)


def identified(config: DataConfig) -> DataConfig:
    """Fill in the fingerprint of a corpus that a person brings; UserError where another one was asked for."""
    if config.name not in GIVEN:
        return config
    found = find(config).sha256
    if config.sha256:
        require(config, found)
    return replace(config, sha256=found)


def require(config: DataConfig, found: str) -> None:
    """Raise UserError unless a corpus has the hash or fingerprint that the config says."""
    if config.sha256 != found:
        said = f"data.sha256={config.sha256 or 'null'}"
        if config.name in GIVEN:
            raise UserError(f"{said}: what is in data.path={config.path} has {found}")
        name = config.name
        raise UserError(f"{said} is not the hash of {name}, {found}; choose data={name}, which sets both")


def lengths(tokeniser: str, vocab: int) -> npt.NDArray[np.int64] | None:
    """Return how many bytes of text each token stands for, 0 for those that stand for none; None if not known."""
    if tokeniser != "gpt2":
        return None
    known = np.fromfile(LENGTHS, np.uint8).astype(np.int64)
    return np.pad(known, (0, vocab - GPT2))


def _texts(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = []
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    found = [file for file in found if file.is_file()]  # no pipe, no link to nowhere
    if len(found) > FILES:
        raise UserError(
            f"data.path={path}: {len(found):,} files, and {FILES:,} can be read; join some of them"
        )
    return sorted(found, key=lambda file: file.relative_to(path).parts)


def _bytes(path: Path) -> Piece:
    status = path.stat()
    return Piece(path, "u1", 0, status.st_size, status.st_mtime_ns)
