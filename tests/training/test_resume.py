"""A run that was stopped goes on where it was, as if nothing had happened, or says why it cannot."""

import os
import shutil
import signal
from unittest.mock import Mock

import pytest

from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, manifest
from mhc_repro.schema import UNITS
from mhc_repro.training import loop, stops
from mhc_repro.training.checkpoint import Checkpoints, checkpoint_folder
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer
from mhc_repro.validation import validate
from stopping import OFTEN, Killed, assert_ends_as_undisturbed, at_step, interrupt, kill

pytestmark = pytest.mark.usefixtures("checkpoints_at_every_step")

# --- told to stop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(config, capsys, number):
    stopped = config("mhc", steps=6, model={"dropout": 0.3})  # checkpoints by time: none is due
    handler = signal.getsignal(number)
    assert interrupt(stopped, 3, number) == "interrupted"
    assert signal.getsignal(number) is handler
    assert "interrupted at step 3" in capsys.readouterr().err
    run = RunDirectory.of(stopped)
    assert (run.read_status()["status"], run.read_status()["step"]) == ("interrupted", 3)
    assert run.table("metrics").read()["step"].tolist() == [0, 1, 2, 3]
    assert_ends_as_undisturbed(stopped)


def test_a_stop_asked_for_while_a_run_is_prepared_is_not_forgotten(config):
    """As in a process of a parallel launcher, which listens before it loads torch."""
    stopped = config("hc", steps=3)
    with stops.taken():
        os.kill(os.getpid(), signal.SIGTERM)
        assert train(stopped) == "interrupted"
        assert train(stopped) == "interrupted"
    assert RunDirectory.of(stopped).read_status()["step"] == 0  # nothing is begun
    assert train(stopped) == "finished"  # nobody listens any more: a new start


def test_a_signal_at_the_last_step_loses_nothing(config):
    stopped = config("hc", steps=3)
    assert interrupt(stopped, 3) in ("interrupted", "finished")
    assert_ends_as_undisturbed(stopped)


def test_a_finished_run_is_not_touched_again(config, capsys, monkeypatch):
    done = config("baseline")
    assert train(done) == "finished"
    run = RunDirectory.of(done)

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in run.path.iterdir() if path.name != ".lock"}

    before = times()
    assert train(done) == "finished"
    assert "already finished" in (said := capsys.readouterr().err)
    assert said.endswith("to train it anew, delete that folder\n")
    monkeypatch.setattr(loop, "is_recorded", lambda root: True)
    assert train(done) == "finished"
    assert capsys.readouterr().err.endswith("to train it anew, add runtime.results=results/local\n")
    assert times() == before


def test_a_run_that_is_written_is_busy(config):
    taken = config("baseline")
    run = RunDirectory.of(taken)
    with run.locked():
        assert train(taken) == "busy"
        assert run.read_status() is None
    assert train(taken) == "finished"


# --- in every mode ------------------------------------------------------------------------------------------

MODES = {
    "optim": {"optim": {"connection_lr": 10.0, "clip_apart": True, "warmup": 0.0, "schedule": "constant"}},
    "norms": {"model": {"dropout": 0.1, "norm": "post", "qk_norm": True}},
    **{each: {"train": {"precision": each}} for each in ("float32", "bfloat16", "float16")},
    "float16 streams": {"train": {"streams": "float16"}},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_goes_on_bit_for_bit_in_every_mode(config, mode):
    stopped = config("mhc", steps=5, **{"model": {"dropout": 0.1}, "runtime": OFTEN} | MODES[mode])
    validate(stopped)
    assert interrupt(stopped, 3) == "interrupted"
    assert_ends_as_undisturbed(stopped)


# --- another machine, other threads -------------------------------------------------------------------------


def test_other_threads_are_refused_in_one_line_and_marked_where_allowed(config):
    first = config("mhc", steps=4)
    interrupt(first, 2)
    run = RunDirectory.of(first)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    first.runtime.threads = 2
    with pytest.raises(UserError, match=r"threads was 1, is 2[^\n]*runtime\.resume=any") as refused:
        train(first)
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before

    first.runtime.resume = "any"
    assert train(first) == "finished"
    manifest = run.read_manifest()
    assert manifest["exact"] is False
    assert manifest["fingerprint"]["threads"] == 2
    assert [session["from_step"] for session in manifest["sessions"]] == [0, 2]


def test_parts_of_a_batch_go_on_as_they_were(config):
    first = config("mhc", steps=4)
    interrupt(first, 2)
    first.runtime.accumulate = 2
    with pytest.raises(UserError, match="accumulate was 1, is 2"):
        train(first)
    second = config("hc", steps=4, runtime={"accumulate": 2})
    interrupt(second, 2)
    assert train(second) == "finished"
    assert RunDirectory.of(second).read_manifest()["exact"] is True
    assert "accumulate" not in RunDirectory.of(first).read_manifest()["fingerprint"]


def test_a_mark_stays_when_the_rest_is_exact(config):
    marked = config("mhc", steps=4, runtime={"resume": "any"})
    interrupt(marked, 1)
    marked.runtime.threads = 2
    interrupt(marked, 2)
    marked.runtime.resume = "exact"
    assert train(marked) == "finished"
    assert RunDirectory.of(marked).read_manifest()["exact"] is False


def test_threads_that_are_not_given_are_the_recorded_ones(config):
    first = config("mhc", steps=4)
    interrupt(first, 2)
    first.runtime.threads = None
    assert train(first) == "finished"
    manifest = RunDirectory.of(first).read_manifest()
    assert (manifest["exact"], manifest["fingerprint"]["threads"]) == (True, 1)


# --- other code ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "exact", "dirty"),
    [
        ({}, True, False),
        ({"commit": "of nobody"}, False, False),
        ({"dirty": True, "diff_sha256": "d0d0"}, False, True),
        ({"commit": "unknown", "dirty": None}, False, None),
    ],
)
def test_a_run_that_goes_on_under_other_code_says_so(config, monkeypatch, change, exact, dirty):
    first = config("hc", steps=4)
    code = manifest.code() | {"commit": "c0ffee", "dirty": False, "diff_sha256": None}
    monkeypatch.setattr(manifest, "code", lambda: code)
    interrupt(first, 2)
    run = RunDirectory.of(first)
    before = run.read_manifest()
    for key in ("dirty", "diff_sha256"):
        del before["sessions"][0][key]  # as they were recorded once
    run.write_manifest(before)
    monkeypatch.setattr(manifest, "code", lambda: code | change)
    assert train(first) == "finished"
    after = run.read_manifest()
    assert (after["commit"], after["exact"], after["dirty"]) == ("c0ffee", exact, dirty)
    ran = {key: code[key] for key in manifest.CODE_FIELDS} | change
    assert after["sessions"][1].items() >= ran.items()
    assert ("other code" in run.log.read_text()) != exact


# --- what else can go wrong ---------------------------------------------------------------------------------


def test_a_torn_checkpoint_costs_its_steps_and_one_warning(config):
    torn = config("mhc", steps=6, runtime=OFTEN)
    interrupt(torn, 4)
    run = RunDirectory.of(torn)
    run.write_status(wall_seconds=1000.0)
    newest = Checkpoints(checkpoint_folder(torn, run), 60).paths()[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert_ends_as_undisturbed(torn)
    log = run.log.read_text()
    assert log.count("warning:") == 1
    assert newest.name in log
    assert run.read_manifest()["sessions"][-1]["from_step"] == 3
    assert run.read_status()["wall_seconds"] >= 1000


def test_a_failure_is_recorded_and_the_next_start_goes_on(config):
    failing = config("hc", steps=5, runtime=OFTEN)
    with at_step(3, Mock(side_effect=ZeroDivisionError("as a test wanted it"))):
        assert train(failing) == "failed"
    run = RunDirectory.of(failing)
    assert run.read_status()["status"] == "failed"
    assert "as a test wanted it" in run.read_status()["message"]
    assert "ZeroDivisionError" in run.log.read_text()
    assert_ends_as_undisturbed(failing)
    assert run.read_status()["message"] == ""


@pytest.mark.parametrize("reached", [2, 6])
def test_a_deleted_folder_is_trained_anew(config, reached):
    """What `already finished` advises, and what `make clean` does: checkpoints, kept elsewhere, must not answer."""
    deleted = config("mhc", steps=6, runtime=OFTEN)
    status = interrupt(deleted, reached) if reached < 6 else train(deleted)
    assert status == ("interrupted" if reached < 6 else "finished")
    shutil.rmtree(RunDirectory.of(deleted).path)
    kill(deleted, 1)
    assert_ends_as_undisturbed(deleted)


def test_rows_that_the_disk_lost_are_made_again(config):
    """After a power cut a synced checkpoint may be ahead of the rows."""
    cut = config("mhc", steps=6, runtime=OFTEN)
    interrupt(cut, 4)
    for name in UNITS:
        RunDirectory.of(cut).table(name).truncate(2)
    assert_ends_as_undisturbed(cut)


EMPTY = {"gone": lambda file: file.unlink(), "empty": lambda file: file.write_bytes(b"")}


@pytest.mark.parametrize("how", EMPTY)
@pytest.mark.parametrize("name", ["manifest.json", *(f"{table}.jsonl" for table in UNITS)])
def test_what_no_kill_can_lose_is_told_and_nothing_is_made_anew(config, name, how):
    damaged = config("mhc", steps=5, runtime=OFTEN)
    interrupt(damaged, 3)
    run = RunDirectory.of(damaged)
    file, checkpoints = run.path / name, checkpoint_folder(damaged, run)

    def kept() -> dict[str, bytes]:
        files = [each for folder in (run.path, checkpoints) for each in folder.iterdir()]
        return {each.name: each.read_bytes() for each in files if each.name != ".lock"}

    content = file.read_bytes()
    EMPTY[how](file)
    before = kept()
    with pytest.raises(UserError, match=rf"{name}: [^\n]*; restore it, or delete the run's folder"):
        train(damaged)
    assert kept() == before
    file.write_bytes(content)
    assert_ends_as_undisturbed(damaged)


def test_a_start_over_that_is_killed_before_its_first_row_is_no_damage(config, tmp_path, monkeypatch):
    """The checkpoint is in a cache that was not used in between."""
    started = config("hc", steps=5, runtime=OFTEN)
    interrupt(started, 3)
    cache, started.runtime.cache = started.runtime.cache, str(tmp_path / "another")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "measure", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            train(started)
    started.runtime.cache = cache
    assert checkpoint_folder(started, RunDirectory.of(started)).exists()
    assert_ends_as_undisturbed(started)


def test_a_checkpoint_that_does_not_count_rows_is_gone_on_from(config):
    older = config("hc", steps=5, runtime=OFTEN)
    interrupt(older, 3)
    checkpoints = Checkpoints(checkpoint_folder(older, RunDirectory.of(older)), 60)
    state, _ = checkpoints.load()
    del state["rows"]
    checkpoints.save(3, state)
    assert_ends_as_undisturbed(older)
