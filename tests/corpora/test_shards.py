"""A shard is read whole or refused in one line, and splits are told by the names of the files."""

import numpy as np
import pytest

import train
from made_shards import some_tokens, write_shard, write_shards
from mhc_repro.corpora import shards
from mhc_repro.corpora.joined import Joined
from mhc_repro.errors import UserError
from one_line import assert_one_line

TOKENS = some_tokens(500)


def test_a_shard_gives_the_tokens_behind_its_header(tmp_path):
    piece = shards.inspect(write_shard(tmp_path / "fineweb_train_000001.bin", TOKENS))
    assert np.array_equal(Joined.of([piece]).read(0, 500), TOKENS)


@pytest.mark.parametrize("name", ["train.bin", "val.bin"])
def test_the_two_files_of_nanogpt_may_do_without_a_header(tmp_path, name):
    (tmp_path / name).write_bytes(TOKENS.tobytes())
    assert np.array_equal(Joined.of([shards.inspect(tmp_path / name)]).read(0, 500), TOKENS)
    write_shard(tmp_path / name, TOKENS)
    assert np.array_equal(Joined.of([shards.inspect(tmp_path / name)]).read(0, 500), TOKENS)


def rewrite(**header):
    return lambda path: write_shard(path, TOKENS, **header)


def content(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


BROKEN = [
    (content(lambda whole: whole[:-7]), "496 tokens instead of the 500 of its header"),
    (content(lambda whole: whole[:500]), "0 tokens instead of the 500"),
    (content(lambda whole: whole + b"\0\0"), "501 tokens instead of the 500"),
    (content(lambda _: b""), "starts with 0 instead of 20240520"),
    (content(lambda _: TOKENS.tobytes()), "so it is no shard"),
    (rewrite(magic=1), "starts with 1 instead of 20240520, so it is no shard"),
    (rewrite(magic=20240801, version=7), "tokens of four bytes"),
    (rewrite(version=2), "is of version 2, and 1 is the one that can be read"),
]


@pytest.mark.parametrize(("breaking", "said"), BROKEN)
def test_a_broken_shard_is_refused_in_one_line(tmp_path, breaking, said, capsys):
    folder = write_shards(tmp_path / "shards")
    path = write_shard(folder / "fineweb_train_000002.bin", TOKENS)
    breaking(path)
    assert train.main(["data=tokens", f"data.path={folder}"]) == 2
    assert_one_line(capsys, f"error: {path}: ", said, "fetch it again")


def test_half_a_token_is_refused_without_a_header_too(tmp_path):
    (tmp_path / "train.bin").write_bytes(b"abc")
    with pytest.raises(UserError, match=r"train\.bin: has 3 bytes, and a token has two"):
        shards.inspect(tmp_path / "train.bin")


def test_files_are_told_apart_by_their_names_and_read_in_their_order(tmp_path):
    (tmp_path / "c_train.bin").mkdir()
    for name in ("b_train_2.bin", "b_train_10.bin", "b_val_0.bin", "train.txt", "other.bin"):
        (tmp_path / name).touch()
    names = {split: [path.name for path in found] for split, found in shards.find(tmp_path).items()}
    assert names == {"train": ["b_train_10.bin", "b_train_2.bin"], "val": ["b_val_0.bin"]}


@pytest.mark.parametrize("split", ["train", "val"])
def test_both_splits_must_be_there(tmp_path, split):
    (tmp_path / ("val.bin" if split == "train" else "train.bin")).touch()
    with pytest.raises(UserError, match=rf"there is no \*{split}\*\.bin; .*train\.bin and val\.bin"):
        shards.find(tmp_path)
