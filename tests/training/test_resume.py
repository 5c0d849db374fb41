"""A run survives whatever stops it: the same rows, gains and weights, bit for bit, as if nothing had."""

import itertools
import math
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import mhc_repro
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, Table
from mhc_repro.runs import manifest as run_manifest
from mhc_repro.training import checkpoint, runtime
from mhc_repro.training.checkpoint import Checkpoints
from mhc_repro.training.loop import checkpoint_folder, train
from mhc_repro.training.trainer import Trainer

TIMES = {"time/step", "time/probe"}


@pytest.fixture(autouse=True)
def checkpoints_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lift the cap on their cost (runtime.checkpoint_seconds still counts); spare what is slow and not at stake."""
    monkeypatch.setattr(checkpoint, "OVERHEAD", math.inf)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # what is recorded counts here
    environment = run_manifest.environment()
    monkeypatch.setattr(run_manifest, "environment", lambda: environment)


def often(config: Config, seconds: float = 0.0) -> Config:
    config.runtime.checkpoint_seconds = seconds
    return config


def elsewhere(config: Config, folder: Path) -> Config:
    """The same run with results and checkpoints in another place."""
    copy = pickle.loads(pickle.dumps(config))
    copy.runtime.results, copy.runtime.cache = str(folder / "results"), str(folder / "cache")
    return copy


def final_state(config: Config) -> dict[str, Any]:
    state, warnings = Checkpoints(checkpoint_folder(config, RunDirectory.of(config)), 60).load()
    assert state is not None
    assert warnings == []
    return state


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    else:
        assert one == other


def assert_same_run(config: Config, expected: Config) -> None:
    """Compare tables (without the wall clock), last weights, optimiser and generator, bit for bit."""
    run, whole = RunDirectory.of(config), RunDirectory.of(expected)
    for name in ("metrics", "gains", "tokens"):
        assert not run.table(name).jsonl.exists()
        one, other = (pq.read_table(r.table(name).parquet) for r in (run, whole))
        assert one.column_names == other.column_names
        kept = [column for column in one.column_names if column not in TIMES]
        assert one.select(kept).equals(other.select(kept)), name
    assert_equal(final_state(config), final_state(expected))
    assert run.read_status()["status"] == "finished"
    assert run.read_status()["step"] == config.train.steps


@contextmanager
def at_step(step: int, act: Any) -> Iterator[None]:
    """Call `act` when that update is done."""
    original = Trainer.step

    def stepped(self: Trainer) -> dict[str, Any]:
        row = original(self)
        if self.done == step:
            act()
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stepped)
        yield


def interrupt(config: Config, step: int, number: int = signal.SIGTERM) -> str:
    with at_step(step, lambda: os.kill(os.getpid(), number)):
        return train(config)


def test_a_finished_run_holds_what_was_measured(config):
    done = config("mhc", steps=5, train={"val_every": 3})  # probed at 0, 2, 4, 5; token maps at 0 and 5
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert train(done) == "finished"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    run = RunDirectory.of(done)
    metrics, gains, tokens = (run.table(name).read() for name in ("metrics", "gains", "tokens"))
    assert metrics["step"].tolist() == list(range(6))
    for column, steps in {
        "loss/train": [1, 2, 3, 4, 5],
        "gain/composite_forward": [0, 2, 4, 5],
        "loss/val": [0, 3, 5],
        "bpc/test": [5],
    }.items():
        assert metrics.loc[metrics[column].notna(), "step"].tolist() == steps
    layers = [1, 2, 3, 4]
    assert list(zip(gains["step"], gains["layer"], strict=True)) == list(
        itertools.product([0, 2, 4, 5], layers)
    )
    assert list(zip(tokens["step"], tokens["layer"], strict=True)) == list(itertools.product([0, 5], layers))
    largest = gains.groupby("step")["composite_backward"].max()
    assert metrics.set_index("step")["gain/composite_backward"].dropna().tolist() == largest.tolist()
    assert {len(row) for row in gains["h_forward"]} == {16}
    assert {len(row) for row in tokens["h_res"]} == {3 * 16}
    status, manifest = run.read_status(), run.read_manifest()
    assert {key: status[key] for key in ("status", "step", "steps", "degenerate", "control")} == {
        "status": "finished",
        "step": 5,
        "steps": 5,
        "degenerate": [],
        "control": [],
    }
    assert manifest["run_id"] == run.run_id
    assert manifest["parameters"]["connection"] == 4 * (96 * 8 + 24 + 3)
    assert manifest["exact"] is True
    assert manifest["data_sha256"] == done.data.sha256
    assert [session["from_step"] for session in manifest["sessions"]] == [0]


def test_what_is_degenerate_and_what_is_a_control_is_in_the_status_and_said(config, capsys):
    verdicts = {}
    alike = {"read_start": [0, 0], "write_start": [0, 0]}
    frozen = config("mhc", freeze=["mix"])
    for name, made in {
        "sound": config("identity"),
        "alike": config("identity", **alike),
        "frozen": frozen,
    }.items():
        made.optim.lr = 1e-3
        assert train(made) == "finished"
        status = RunDirectory.of(made).read_status()
        verdicts[name] = status["degenerate"], status["control"]
    assert verdicts["alike"] == (["streams_never_separated"], ["h_res_identity"])
    assert verdicts["sound"] == verdicts["frozen"] == ([], ["h_res_identity"])
    said = " ".join(capsys.readouterr().err.split())
    assert "degenerate: streams_never_separated" in said
    assert "control: h_res_identity" in said


# --- killed by the operating system -------------------------------------------------------------------------

# Loads torch once and forks a process for each line it is given; says its pid, what it printed, its exit code.
SERVER = """
import math, os, pickle, sys, time
import torch._dynamo  # torch.optim would load it at every first step, for seconds
from mhc_repro.training import checkpoint, data
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer

step = Trainer.step
Trainer.step = lambda self: time.sleep(0.02) or step(self)  # a fast machine must not be done before it is killed
checkpoint.OVERHEAD = math.inf
text = data.synthetic()
data.synthetic = lambda: text
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        with open(line.rstrip(), "rb") as file:
            print(train(pickle.load(file)), flush=True)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """Starts a run in a process of its own, again and again."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.pickled, self.errors = config, folder / "config.pickle", folder / "errors.txt"
        self.pickled.write_bytes(pickle.dumps(config))
        package = str(Path(mhc_repro.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors.open("w"),
            text=True,
            env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "1"},
        )

    def start(self, until: int) -> int:
        """Start the run and return its pid once the metrics table holds `until` rows."""
        print(self.pickled, file=self.process.stdin, flush=True)
        pid, limit = int(self.line()), time.monotonic() + 60
        while self.rows() < until:
            ended = select.select([self.process.stdout], [], [], 0)[0]
            assert not ended, self.errors.read_text()
            assert time.monotonic() < limit, self.errors.read_text()
            time.sleep(0.002)
        return pid

    def rows(self) -> int:
        try:
            return RunDirectory.of(self.config).table("metrics").jsonl.read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def line(self) -> str:
        return self.process.stdout.readline().rstrip()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    servers: list[Server] = []

    def make(config: Config) -> Server:
        servers.append(Server(config, tmp_path))
        return servers[-1]

    yield make
    for server in servers:
        server.process.stdin.close()
        server.process.wait(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_run_killed_at_random_moments_is_the_uninterrupted_run(config, serve, tmp_path):
    """SIGKILL four times, beside a second process once, then SIGTERM; then left alone."""
    body = {"dtype": "float32", "dropout": 0.1, "dim": 16}
    settings = {"steps": 100, "model": body, "probe": {"every": 10}, "train": {"val_every": 10}}
    quick = {"kind": "sinkhorn", "iterations": 5}
    killed = often(config("mhc", mixing=quick, **settings), seconds=0.03)
    run, server = RunDirectory.of(killed), serve(killed)
    random = np.random.Generator(np.random.Philox(1))
    for first, last in ((2, 12), (20, 30), (32, 42), (44, 50)):
        pid = server.start(until=int(random.integers(first, last)))
        time.sleep(random.uniform(0, 0.04))
        assert first > 2 or train(killed) == "busy"
        os.kill(pid, signal.SIGKILL)
        assert server.line() == str(-signal.SIGKILL)
        assert run.read_status()["status"] == "running"
        assert run.state() == "interrupted"

    os.kill(server.start(until=60), signal.SIGTERM)
    assert (server.line(), server.line()) == ("interrupted", "0")
    status = run.read_status()
    assert status["status"] == "interrupted"
    assert 59 <= status["step"] < 100

    server.start(until=0)
    assert (server.line(), server.line()) == ("finished", "0")
    errors = server.errors.read_text()
    assert "repeat the command to go on" in errors
    assert "Traceback" not in errors
    manifest = run.read_manifest()
    assert manifest["exact"] is True
    assert manifest["sessions"][-1]["from_step"] == status["step"]
    assert 4 <= len(manifest["sessions"]) <= 6  # the first kill may have come before the first checkpoint

    whole = elsewhere(killed, tmp_path / "whole")
    assert train(whole) == "finished"
    assert_same_run(killed, whole)


# --- killed between any two touches of the disk ------------------------------------------------------------


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the package may catch it."""


class Fuse:
    """Dies at the `at`-th moment before a file changes, or half-way through a row."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.passed = at, 0

    def moment(self) -> None:
        self.passed += 1
        if self.passed - 1 == self.at:
            raise Killed

    def before(self, function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.moment()
            return function(*args, **kwargs)

        return wrapped

    def append(self, table: Table, row: dict[str, Any]) -> None:
        self.moment()
        APPEND(table, row)
        content = table.jsonl.read_bytes()
        try:
            self.moment()
        except Killed:
            table.jsonl.write_bytes(content[:-5])
            raise


APPEND = Table.append


@contextmanager
def lit(fuse: Fuse) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", fuse.before(os.replace))
        patch.setattr(Path, "unlink", fuse.before(Path.unlink))
        patch.setattr(Table, "append", lambda table, row: fuse.append(table, row))
        yield


def test_a_run_killed_between_any_two_writes_is_the_uninterrupted_run(config, tmp_path):
    settings = {
        "steps": 2,
        "model": {"blocks": 1, "dim": 4},
        "probe": {"every": 2},
        "train": {"test_windows": 1},
    }
    expected = often(config("baseline", **settings))
    fuse = Fuse()
    with lit(fuse):
        assert train(expected) == "finished"
    assert fuse.passed > 40
    for at in range(fuse.passed):
        place = tmp_path / "killed"
        killed = elsewhere(expected, place)
        with lit(Fuse(at)), pytest.raises(Killed):
            train(killed)
        assert train(killed) == "finished", at
        assert_same_run(killed, expected)
        shutil.rmtree(place)


# --- told to stop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(config, tmp_path, capsys, number):
    stopped = config("mhc", steps=6, model={"dropout": 0.3})  # checkpoints by time: none is due
    handler = signal.getsignal(number)
    assert interrupt(stopped, 3, number) == "interrupted"
    assert signal.getsignal(number) is handler
    assert "interrupted at step 3" in capsys.readouterr().err
    run = RunDirectory.of(stopped)
    assert (run.read_status()["status"], run.read_status()["step"]) == ("interrupted", 3)
    assert run.table("metrics").read()["step"].tolist() == [0, 1, 2, 3]
    assert train(stopped) == "finished"
    whole = elsewhere(stopped, tmp_path / "whole")
    assert train(whole) == "finished"
    assert_same_run(stopped, whole)


def test_a_signal_at_the_last_step_loses_nothing(config, tmp_path):
    stopped = config("hc", steps=3)
    assert interrupt(stopped, 3) in ("interrupted", "finished")
    assert train(stopped) == "finished"
    whole = elsewhere(stopped, tmp_path / "whole")
    train(whole)
    assert_same_run(stopped, whole)


def test_a_finished_run_is_not_touched_again(config, capsys):
    done = config("baseline")
    assert train(done) == "finished"
    run = RunDirectory.of(done)

    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in run.path.iterdir() if path.name != ".lock"}

    before = times()
    assert train(done) == "finished"
    assert "already finished" in capsys.readouterr().err
    assert times() == before


def test_a_run_that_is_written_is_busy(config):
    taken = config("baseline")
    run = RunDirectory.of(taken)
    with run.locked():
        assert train(taken) == "busy"
        assert run.read_status() is None
    assert train(taken) == "finished"


# --- another machine, other threads -------------------------------------------------------------------------


def test_other_threads_are_refused_in_one_line_and_marked_where_allowed(config):
    first = config("mhc", steps=4)
    interrupt(first, 2)
    run = RunDirectory.of(first)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    first.runtime.threads = 2
    with pytest.raises(UserError) as refused:
        train(first)
    message = str(refused.value)
    assert "\n" not in message
    assert "threads was 1, is 2" in message
    assert "runtime.resume=any" in message
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before

    first.runtime.resume = "any"
    assert train(first) == "finished"
    manifest = run.read_manifest()
    assert manifest["exact"] is False
    assert manifest["fingerprint"]["threads"] == 2
    assert [session["from_step"] for session in manifest["sessions"]] == [0, 2]


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


# --- what else can go wrong ---------------------------------------------------------------------------------


def test_a_torn_checkpoint_costs_its_steps_and_one_warning(config, tmp_path):
    torn = often(config("mhc", steps=6))
    interrupt(torn, 4)
    run = RunDirectory.of(torn)
    newest = Checkpoints(checkpoint_folder(torn, run), 60).paths()[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert train(torn) == "finished"
    log = run.log.read_text()
    assert log.count("warning:") == 1
    assert newest.name in log
    assert run.read_manifest()["sessions"][-1]["from_step"] == 3
    whole = elsewhere(torn, tmp_path / "whole")
    train(whole)
    assert_same_run(torn, whole)


def test_a_failure_is_recorded_and_the_next_start_goes_on(config, tmp_path):
    def fail() -> None:
        raise ZeroDivisionError("as a test wanted it")

    failing = often(config("hc", steps=5))
    with at_step(3, fail):
        assert train(failing) == "failed"
    run = RunDirectory.of(failing)
    assert run.read_status()["status"] == "failed"
    assert "as a test wanted it" in run.read_status()["message"]
    assert "ZeroDivisionError" in run.log.read_text()
    assert train(failing) == "finished"
    assert run.read_status()["message"] == ""
    whole = elsewhere(failing, tmp_path / "whole")
    train(whole)
    assert_same_run(failing, whole)


@pytest.mark.parametrize("reached", [2, 6])
def test_a_deleted_folder_is_trained_anew(config, tmp_path, reached):
    """What `already finished` advises, and what `make clean` does: checkpoints, kept elsewhere, must not answer."""
    deleted = often(config("mhc", steps=6))
    assert interrupt(deleted, reached) if reached < 6 else train(deleted)
    shutil.rmtree(RunDirectory.of(deleted).path)
    with at_step(1, lambda: (_ for _ in ()).throw(Killed())), pytest.raises(Killed):
        train(deleted)
    assert train(deleted) == "finished"
    whole = elsewhere(deleted, tmp_path / "whole")
    train(whole)
    assert_same_run(deleted, whole)


def test_rows_that_the_disk_lost_are_made_again(config, tmp_path):
    """After a power cut a synced checkpoint may be ahead of the rows."""
    cut = often(config("mhc", steps=6))
    interrupt(cut, 4)
    for name in ("metrics", "gains", "tokens"):
        RunDirectory.of(cut).table(name).truncate(2)
    assert train(cut) == "finished"
    whole = elsewhere(cut, tmp_path / "whole")
    train(whole)
    assert_same_run(cut, whole)


def test_a_divergence_is_a_result(config, capsys):
    diverging = config("hc", steps=50, model={"dtype": "float32"})
    diverging.optim.lr, diverging.optim.warmup, diverging.optim.clip = 1e30, 0.0, 0.0
    assert train(diverging) == "diverged"
    run = RunDirectory.of(diverging)
    status, metrics = run.read_status(), run.table("metrics").read()
    assert status["status"] == "diverged"
    assert status["step"] == metrics["step"].iloc[-1] < 50
    assert not math.isfinite(metrics["loss/train"].iloc[-1])
    assert np.isfinite(metrics["loss/train"].iloc[1:-1]).all()
    assert not run.table("metrics").jsonl.exists()
    assert train(diverging) == "diverged"
    assert "already diverged" in capsys.readouterr().err


def test_a_divergence_at_the_last_update_is_one_too(config):
    """The loss of the last batch is still finite; the model that the run leaves is not."""
    late = config("hc", steps=1, model={"dtype": "float32"})
    late.optim.lr, late.optim.warmup, late.optim.final_lr = 1e30, 0.0, 1.0
    assert train(late) == "diverged"


def test_a_divergence_that_is_killed_while_it_is_written_stays_the_same(config, tmp_path):
    expected = config("hc", steps=50, model={"dtype": "float32"}, probe={"every": 50})
    expected.optim.lr, expected.optim.warmup, expected.optim.clip = 1e30, 0.0, 0.0
    fuse = Fuse()
    with lit(fuse):
        assert train(expected) == "diverged"
    rows = RunDirectory.of(expected).table("metrics").read().drop(columns=list(TIMES), errors="ignore")
    for at in itertools.islice(range(fuse.passed - 1, -1, -1), 10):  # what follows the last row
        killed = elsewhere(expected, tmp_path / str(at))
        with lit(Fuse(at)), pytest.raises(Killed):
            train(killed)
        assert train(killed) == "diverged"
        again = RunDirectory.of(killed).table("metrics").read().drop(columns=list(TIMES), errors="ignore")
        assert again.equals(rows), at


@pytest.mark.slow  # the tracing of ten shapes
def test_a_sweep_over_many_shapes_in_one_process_compiles_each(config, monkeypatch):
    """The compiler keeps a few variants of a function and, asked for one graph, fails at the next."""
    real = torch.compile
    monkeypatch.setattr(runtime, "compiles", lambda *_: True)
    monkeypatch.setattr(
        torch, "compile", lambda f, **how: real(f, **how | {"backend": "eager", "options": None})
    )
    for dim in range(2, 22, 2):
        shape = config("identity", n=2, steps=1, model={"dim": dim, "blocks": 1})
        assert train(shape) == "finished"
