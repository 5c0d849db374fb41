"""Batches depend on (seed, step) alone and cover the whole split; each corpus is the one that was hashed."""

import hashlib

import numpy as np
import pytest
import torch

from mhc_repro.config import DataConfig, RuntimeConfig
from mhc_repro.corpora import data, enwik8
from mhc_repro.corpora.synthetic import LINE
from mhc_repro.errors import UserError
from yaml_files import load

RAMP = np.arange(250, dtype=np.uint8)  # every byte tells its offset


def config(group: str, **changes) -> DataConfig:
    return DataConfig(**load("data", group) | changes)


@pytest.fixture(scope="module")
def synthetic() -> data.Corpus:
    return data.open_corpus(config("synthetic"), RuntimeConfig())


def test_a_batch_is_int64_and_its_targets_are_the_next_bytes():
    inputs, targets = data.batch(RAMP, seed=3, step=5, batch=7, sequence=11)
    assert inputs.shape == targets.shape == (7, 11)
    assert inputs.dtype == targets.dtype == torch.int64
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(11))


def test_a_batch_depends_on_seed_and_step_alone():
    first = data.batch(RAMP, 0, 1, 16, 8)[0]
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    for step in (9, 4, 1):
        last = data.batch(RAMP, 0, step, 16, 8)[0]
    assert torch.equal(first, last)
    different = [data.batch(RAMP, *key, 16, 8)[0] for key in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2**32)]]
    for i, one in enumerate(different):
        assert not any(torch.equal(one, other) for other in different[:i])


def test_a_batch_is_the_same_in_another_process_and_another_year():
    offsets = data.batch(RAMP, 7, 1234, 8, 4)[0][:, 0].tolist()
    assert offsets == [71, 1, 199, 16, 69, 9, 74, 65]


def test_offsets_are_uniform_from_the_first_to_the_last_legal_one():
    sequence, count = 239, 11  # legal offsets 0..10
    offsets = torch.cat([data.batch(RAMP, 0, step, 50, sequence)[0][:, 0] for step in range(200)])
    frequency = torch.bincount(offsets, minlength=count) / len(offsets)
    assert len(frequency) == count
    assert (frequency - 1 / count).abs().max() < 0.012  # 4 sigma
    assert data.batch(RAMP, 0, 0, 2, 249)[1][0, -1] == 249


def test_what_is_longer_than_the_split_is_the_users_to_fix():
    with pytest.raises(UserError, match=r"data\.sequence=250 .*at most data\.sequence=249"):
        data.batch(RAMP, 0, 0, 2, 250)
    with pytest.raises(UserError, match=r"at most 5\); lower train\.val_windows.*data\.sequence"):
        data.windows(RAMP, 6, 49)


@pytest.mark.parametrize(("count", "sequence"), [(1, 249), (5, 49), (6, 40), (25, 9), (3, 5)])
def test_windows_are_fixed_evenly_spaced_and_share_no_byte(count, sequence):
    inputs, targets = data.windows(RAMP, count, sequence)
    assert inputs.shape == targets.shape == (count, sequence)
    assert inputs.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert inputs[:, 0].diff().unique().numel() <= 1
    read = torch.cat([inputs, targets[:, -1:]], dim=1).flatten()
    assert read.unique().numel() == read.numel()
    assert 250 - read.max() <= 250 // count  # spread over the whole split
    assert torch.equal(inputs, data.windows(RAMP, count, sequence)[0])


def test_synthetic_text_is_the_hashed_one_split_90_5_5(synthetic):
    text = np.concatenate([synthetic.train, synthetic.val, synthetic.test])
    assert hashlib.sha256(text.tobytes()).hexdigest() == config("synthetic").sha256 == synthetic.sha256
    assert (len(synthetic.train), len(synthetic.val), len(synthetic.test)) == (5_400_000, 300_000, 300_000)
    assert text.dtype == np.uint8
    assert set(np.unique(text)) == set(b"abcdefghijklmnop \n")
    assert {len(line) for line in text.tobytes().split(b"\n")[:-1]} == {LINE - 1}


def test_synthetic_text_is_learnable_by_context(synthetic):
    def entropy(order: int) -> float:
        """Nats a byte of an order-`order` table fitted on train, measured on val."""
        base = len(np.unique(synthetic.train))
        train, val = (np.unique(part, return_inverse=True)[1] for part in (synthetic.train, synthetic.val))
        size = base ** (order + 1)
        counts = np.bincount(codes(train, order, base), minlength=size).reshape(-1, base) + 1e-3
        chance = (counts / counts.sum(1, keepdims=True)).reshape(-1)
        return float(-np.log(chance[codes(val, order, base)]).mean())

    def codes(text: np.ndarray, order: int, base: int) -> np.ndarray:
        return sum(text[i : len(text) - order + i] * base ** (order - i) for i in range(order + 1))

    unigram, bigram, trigram = entropy(0), entropy(1), entropy(2)
    assert unigram > bigram + 0.2
    assert bigram > trigram + 1.0
    assert 1.0 < trigram < 1.25


def test_every_held_out_window_of_the_default_protocol_fits_in_synthetic_text(synthetic):
    assert len(data.windows(synthetic.test, 2048, 128)[0]) == 2048


def test_enwik8_is_memory_mapped_and_split_90_5_5(tmp_path, monkeypatch):
    text = np.random.Generator(np.random.Philox(0)).bytes(2000)
    (tmp_path / "copy").write_bytes(text)
    monkeypatch.setattr(enwik8, "SIZE", len(text))
    monkeypatch.setattr(enwik8, "SHA256", hashlib.sha256(text).hexdigest())
    runtime = RuntimeConfig(enwik8=str(tmp_path / "copy"), cache=str(tmp_path / "cache"))
    corpus = data.open_corpus(config("enwik8", sha256=enwik8.SHA256), runtime)
    assert b"".join(map(bytes, (corpus.train, corpus.val, corpus.test))) == text
    assert (len(corpus.train), len(corpus.val), len(corpus.test)) == (1800, 100, 100)
    assert isinstance(corpus.train.base.base, np.memmap)
    assert not corpus.train.flags.writeable


@pytest.mark.parametrize("name", ["enwik8", "synthetic"])
@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_a_hash_that_is_not_the_corpus_is_refused_before_any_download(monkeypatch, name, sha256):
    monkeypatch.setattr(enwik8, "fetch", lambda given, cache: pytest.fail("was fetched"))
    with pytest.raises(UserError, match=rf"data\.sha256=.*choose data={name}"):
        data.open_corpus(config(name, sha256=sha256), RuntimeConfig())


def test_the_committed_hash_is_the_pinned_one():
    assert config("enwik8").sha256 == enwik8.SHA256
