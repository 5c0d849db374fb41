"""A checkpoint is there whole or not at all, and the one before stands behind it."""

import os
from unittest.mock import Mock

import pytest
import torch

from mhc_repro.training import checkpoint
from mhc_repro.training.checkpoint import Checkpoints
from stopping import assert_equal


def state(step: int) -> dict:
    return {"step": step, "model": {"w": torch.full((50,), float(step))}, "generator": torch.get_rng_state()}


def saved(folder, steps) -> Checkpoints:
    checkpoints = Checkpoints(folder, seconds=60)
    for step in steps:
        checkpoints.save(step, state(step))
    return checkpoints


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    loaded, warnings = saved(tmp_path / "new" / "folder", [3]).load()
    assert warnings == []
    assert_equal(loaded, state(3))


def test_nothing_saved_is_nothing_loaded(tmp_path):
    assert Checkpoints(tmp_path / "none", 60).load() == (None, [])


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path):
    checkpoints = saved(tmp_path, [8, 9, 10, 99_999_999, 100_000_000])
    assert [path.name for path in checkpoints.paths()] == ["step-100000000.pt", "step-99999999.pt"]
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints.load()[0]["step"] == 100_000_000


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


TORN = {
    "empty": lambda content: b"",
    "short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "flipped in the middle": lambda content: flipped(content, len(content) // 2, 1),
    "flipped at the start": lambda content: flipped(content, 0, 128),
    "long": lambda content: content + b"\0",
}


@pytest.mark.parametrize("how", TORN)
def test_a_torn_file_falls_back_to_the_one_before_with_one_warning(tmp_path, how):
    checkpoints = saved(tmp_path, [1, 2])
    newest = checkpoints.paths()[0]
    newest.write_bytes(TORN[how](newest.read_bytes()))
    loaded, warnings = checkpoints.load()
    assert loaded["step"] == 1
    assert len(warnings) == 1
    assert "step-00000002.pt" in warnings[0]
    assert "\n" not in warnings[0]
    assert Checkpoints(tmp_path, 60).load()[1] == []  # once, not at every start


def test_two_torn_files_are_two_warnings_and_a_fresh_start(tmp_path):
    checkpoints = saved(tmp_path, [1, 2])
    for path in checkpoints.paths():
        path.write_bytes(path.read_bytes()[:-1])
    loaded, warnings = checkpoints.load()
    assert loaded is None
    assert len(warnings) == 2


def test_what_was_saved_on_a_gpu_is_loaded_where_there_is_none(tmp_path, monkeypatch):
    """A run there is refused for its device, or goes on with runtime.resume=any."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")
        checkpoints = saved(tmp_path, [3])
    loaded, warnings = checkpoints.load()
    assert warnings == []
    assert loaded["model"]["w"].device.type == "cpu"
    assert torch.equal(loaded["model"]["w"], state(3)["model"]["w"])


def test_a_save_that_is_cut_short_leaves_the_ones_before(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, [1, 2])
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                checkpoints.save(3, state(3))
        loaded, warnings = Checkpoints(tmp_path, 60).load()
        assert (loaded["step"], warnings) == (2, [])
    checkpoints.save(4, state(4))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000002.pt", "step-00000004.pt"]


def test_it_is_due_by_time_and_never_more_than_a_hundredth_of_the_run(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(tmp_path, seconds=60)
    assert not checkpoints.due()
    now[0] += 59.9
    assert not checkpoints.due()
    now[0] += 0.1
    assert checkpoints.due()

    def slow(file, *_):
        now[0] += 2.0

    monkeypatch.setattr(os, "fsync", slow)
    checkpoints.save(1, state(1))
    assert not checkpoints.due()
    now[0] += 199.0
    assert not checkpoints.due()  # saving took 2 s, so the next one waits for 200
    now[0] += 1.0
    assert checkpoints.due()
