"""A corpus of one's own: what is read of it, and that a run is named by its content and never by its place."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from made_shards import some_tokens, write_shard, write_shards
from mhc_repro.config import DataConfig
from mhc_repro.corpora import data, given
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory
from mhc_repro.runs.identity import run_id
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer
from stopping import assert_equal


def of(name: str, path: Path, **more) -> DataConfig:
    settings = {"tokeniser": "gpt2", "vocab": 50304} if name == "tokens" else {}
    return given.identified(
        DataConfig(**{"name": name, "path": str(path), "batch": 4, "sequence": 6} | settings | more)
    )


def opened(config: DataConfig) -> data.Corpus:
    return data.open_corpus(config, None)


def everything(split) -> list[int]:
    return split.read(0, len(split)).tolist()


def test_a_text_is_the_bytes_of_its_files_in_the_order_of_their_paths_cut_90_5_5(tmp_path):
    texts = {"b.txt": "second", "a/z.md": "first", "a.txt": "x" * 9, ".git/c": "no", ".d": "no"}
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "empty").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    corpus = opened(of("text", tmp_path))
    read = [everything(split) for split in (corpus.train, corpus.val, corpus.test)]
    assert b"".join(map(bytes, read)) == b"first" + b"x" * 9 + b"second"
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (18, 1, 1)
    alone = tmp_path / "b.txt"
    assert everything(opened(of("text", alone)).train) == list(b"secon")
    assert not corpus.tokens


def test_of_tokens_the_halves_of_the_validation_shards_are_val_and_test(tmp_path):
    folder = write_shards(tmp_path, train=(50, 31), val=21)
    write_shard(folder / "fineweb_val_000001.bin", some_tokens(20, seed=7))
    corpus = opened(of("tokens", folder))
    assert everything(corpus.train) == [*some_tokens(50, seed=1), *some_tokens(31, seed=2)]
    held_out = [*some_tokens(21), *some_tokens(20, seed=7)]
    assert (everything(corpus.val), everything(corpus.test)) == (held_out[:20], held_out[20:])


@pytest.mark.parametrize("sequence", [5, 80])
def test_batches_and_windows_cross_from_shard_to_shard(tmp_path, sequence):
    corpus = opened(of("tokens", write_shards(tmp_path, train=(50, 3, 71), val=400)))
    whole = np.array(everything(corpus.train), np.uint16)
    for step in range(20):
        ours, plain = (data.batch(x, 3, step, 8, sequence) for x in (corpus.train, whole))
        assert_equal(ours, plain)
        assert ours[0].dtype == torch.int64
    held_out = np.array(everything(corpus.val), np.uint16)
    assert_equal(*(data.windows(x, 2, sequence) for x in (corpus.val, held_out)))


def test_a_run_is_named_by_what_it_reads_and_not_by_where(config, tmp_path):
    def identity(path: Path) -> str:
        return run_id(replace(config("baseline"), data=of("tokens", path)))

    here = write_shards(tmp_path / "here", train=(50, 31), val=40)
    there = tmp_path / "there"
    there.mkdir()
    tokens = np.concatenate([some_tokens(50, seed=1), some_tokens(31, seed=2)])
    (there / "train.bin").write_bytes(tokens.tobytes())
    (there / "val.bin").write_bytes(some_tokens(40).tobytes())
    first = identity(here)
    assert identity(there) == first
    (there / "val.bin").write_bytes(some_tokens(40, seed=5).tobytes())
    assert identity(there) != first


def test_what_a_run_leaves_behind_names_no_path(config, tmp_path):
    made = replace(config("mhc"), data=of("tokens", write_shards(tmp_path / "secret")))
    assert train(made) == "finished"
    run = RunDirectory.of(made)
    for file in run.path.glob("*"):
        assert b"secret" not in file.read_bytes(), file.name
    recorded = yaml.safe_load((run.path / "config.yaml").read_text())
    assert recorded["data"] == {k: v for k, v in asdict(made.data).items() if k != "path"}
    assert run.read_manifest()["data_sha256"] == made.data.sha256
    assert train(made) == "finished"  # and is found again


def test_a_hash_that_was_asked_for_must_be_the_one_that_is_there(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    found = of("text", tmp_path)
    assert given.identified(found) == found
    with pytest.raises(UserError, match=rf"data\.sha256={'0' * 64}: what is in .* has {found.sha256}"):
        given.identified(replace(found, sha256="0" * 64))
    (tmp_path / "a.txt").write_text("another text")  # between composing and opening
    with pytest.raises(UserError, match=rf"data\.sha256={found.sha256}"):
        opened(found)


@pytest.mark.parametrize("name", ["text", "tokens"])
def test_a_path_that_is_not_given_or_not_there_is_the_users_to_mend(tmp_path, name):
    with pytest.raises(UserError, match=rf"data\.path=null: data={name} .*data\.path="):
        given.identified(DataConfig(name=name))
    with pytest.raises(UserError, match="no such file or folder"):
        of(name, tmp_path / "nowhere")


def test_too_many_files_are_refused_before_they_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(given, "FILES", 2)
    for name in "abc":
        (tmp_path / name).write_text(name)
    with pytest.raises(UserError, match="3 files, and 2 can be read"):
        of("text", tmp_path)


def test_the_bytes_of_gpt2s_tokens():
    """The first 256 are single bytes; some that anyone can look up; the separator stands for no text."""
    lengths = given.lengths("gpt2", 50304)
    assert len(lengths) == 50304
    assert (lengths[:256] == 1).all()
    known = {" the": 262, " and": 290, "\n\n": 628, " a": 257, "ing": 278, ".": 13}
    known |= {"Hello": 15496, " world": 995}
    assert {text: lengths[token] for text, token in known.items()} == {text: len(text) for text in known}
    assert (lengths[50256:] == 0).all()
    assert (lengths[256:50256] >= 2).all()
    assert lengths.sum() == 320_814
    assert given.lengths("none", 50304) is None


def test_held_out_loss_of_tokens_is_in_bits_per_byte_where_their_bytes_are_known(config, tmp_path):
    made = replace(config("hc"), data=of("tokens", write_shards(tmp_path)))
    known = Trainer(made, torch.device("cpu"))
    row = known.evaluate("val", 5)
    _, targets = data.windows(known.corpus.val, 5, 6)
    bytes_read = sum(int(given.lengths("gpt2", 50304)[token]) for token in targets.flatten().tolist())
    assert set(row) == {"loss/val", "bpb/val"}
    assert row["bpb/val"] == pytest.approx(row["loss/val"] * 30 / np.log(2) / bytes_read, rel=1e-12)
    made.data = replace(made.data, tokeniser="none")
    assert Trainer(made, torch.device("cpu")).evaluate("val", 5) == {"loss/val": row["loss/val"]}
