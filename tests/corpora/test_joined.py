"""Arrays read as one are their concatenation, and a fingerprint is of what is read, not of how it is stored."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhc_repro.corpora import joined
from mhc_repro.corpora.joined import Joined, Piece, fingerprint
from mhc_repro.errors import UserError

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(any)


def parts(lengths: list[int]) -> list[np.ndarray]:
    """Arrays of these lengths whose symbols count on from one to the next."""
    ramp = np.arange(sum(lengths), dtype=np.uint16)
    return np.split(ramp, np.cumsum(lengths)[:-1])


def pieces(folder: Path, *arrays: np.ndarray, before: int = 0) -> tuple[Piece, ...]:
    """Files of these arrays, `before` bytes of something else in front."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, array in enumerate(arrays):
        path = folder / f"{number}.bin"
        path.write_bytes(b"x" * before + array.astype("<u2").tobytes())
        made.append(Piece(path, "<u2", before, len(array), path.stat().st_mtime_ns))
    return tuple(made)


@given(lengths=LENGTHS, data=st.data())
def test_what_is_read_is_the_concatenation(lengths, data):
    text = Joined(parts(lengths))
    whole = np.concatenate(parts(lengths))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    cut = text[start:stop]
    assert (len(text), len(cut)) == (len(whole), stop - start)
    if stop > start:
        for read in (cut.read(0, len(cut)), text.read(start, stop - start)):
            assert read.tolist() == whole[start:stop].tolist()
        length = data.draw(st.integers(1, stop - start))
        offsets = range(stop - start - length + 1)
        windows = np.lib.stride_tricks.sliding_window_view(whole[start:stop], length)
        assert cut.rows(offsets, length).tolist() == windows.tolist()


def test_files_are_mapped_and_not_read(tmp_path):
    (part,) = Joined.of(pieces(tmp_path, np.arange(9), before=3)).parts
    assert isinstance(part.base, np.memmap)
    assert not part.flags.writeable
    assert part.tolist() == list(range(9))


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 4 symbols, 3 of them where a split is longer than 12."""
    fingerprint.cache_clear()
    for name, value in {"BLOCK": 4, "BLOCKS": 3, "WHOLE": 12}.items():
        monkeypatch.setattr(joined, name, value)
    yield
    fingerprint.cache_clear()


def test_a_fingerprint_is_of_the_symbols_however_they_are_stored(tmp_path):
    ramp = np.arange(10)
    one = fingerprint(pieces(tmp_path / "one", ramp))
    cut = fingerprint(pieces(tmp_path / "cut", ramp[:3], ramp[3:3], ramp[3:], before=6))
    assert one == cut
    assert one.largest == 9
    # but not of splits run together
    assert fingerprint(pieces(tmp_path / "a", ramp[:3]), pieces(tmp_path / "b", ramp[3:])) != one


def test_a_symbol_that_no_block_showed_is_told_when_it_is_read(tmp_path, short_blocks):
    symbols = np.zeros(40, np.uint16)
    symbols[5] = 300
    made = pieces(tmp_path, symbols)
    assert fingerprint(made).largest == 0
    text = Joined.of(made, vocab=256)[3:]
    assert text.rows([3, 20], 4).max() == 0
    with pytest.raises(UserError, match=r"data\.vocab=256: there is a symbol 300; use data.vocab=301"):
        text.rows([0, 20], 4)


@pytest.mark.parametrize("at", range(12))
def test_up_to_a_length_every_symbol_counts(tmp_path, short_blocks, at):
    ramp = np.arange(12)
    changed = np.where(ramp == at, 99, ramp)
    found = fingerprint(pieces(tmp_path / "changed", changed))
    assert found.sha256 != fingerprint(pieces(tmp_path / "one", ramp)).sha256
    assert found.largest == 99


def test_beyond_it_blocks_from_the_first_to_the_last_symbol_and_the_length(tmp_path, short_blocks):
    ramp = np.arange(40)
    one = fingerprint(pieces(tmp_path / "one", ramp))
    seen = []
    for at in range(40):
        changed = np.where(ramp == at, 99, ramp)
        if fingerprint(pieces(tmp_path / f"at {at}", changed)) != one:
            seen.append(at)
    assert seen == [0, 1, 2, 3, 18, 19, 20, 21, 36, 37, 38, 39]
    longer = np.concatenate([ramp[:10], [7], ramp[10:]])
    assert fingerprint(pieces(tmp_path / "longer", longer)) != one


def test_a_file_that_has_changed_is_looked_at_anew(tmp_path):
    def look() -> str:
        return fingerprint(pieces(tmp_path, np.arange(10))).sha256

    first = look()
    (tmp_path / "0.bin").write_bytes(np.full(10, 5, "<u2").tobytes())
    changed = Piece(tmp_path / "0.bin", "<u2", 0, 10, 1)
    assert fingerprint((changed,)).sha256 != first == look()
