"""One run in two real processes of torchrun's: the numbers of one process, and an accident costs nothing."""

import signal
import socket
from unittest.mock import Mock

import pytest
import torch

from mhc_repro.command_line import ranks
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run, RunDirectory, read_run, read_runs
from mhc_repro.training import follower, runtime, stops, together
from mhc_repro.training.checkpoint import checkpoint_folder
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer
from mhc_repro.validation import validate
from stopping import OFTEN
from tiny_runs import TINY
from two_processes import assert_same, torchrun

lost = Mock(side_effect=together.Lost)
MORE = ("connection=mhc", "data.batch=4", "train.steps=24", "optim.lr=3e-3", "runtime.checkpoint_seconds=0")


@pytest.fixture
def as_one_of_two(monkeypatch):
    """Make this process, as far as its environment tells, one of two of torchrun's."""

    def become(rank):
        told = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        for key, value in {**told, "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(key, str(value))

    return become


def test_two_processes_are_one_run(tmp_path, main, capfd):
    def line(*names: str) -> list[str]:
        return [*TINY, *MORE, f"runtime.results={','.join(str(tmp_path / name) for name in names)}"]

    def run(name: str) -> Run:
        (found,) = read_runs(tmp_path / name)
        return found

    parallel = ("runtime.accumulate=2",)
    argv = ("-m", *line("whole", "hurt"), *parallel)
    code, said = torchrun("hurt_train.py", *argv, ACCIDENT="hurt 9 1 kill")
    assert code == 1
    assert said.count("another of its processes died at step 9; saved; repeat the command to go on") == 1
    assert [run(name).state for name in ("whole", "hurt")] == ["finished", "interrupted"]

    assert main(*line("hurt")) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert "accumulate was 2, is 1" in error
    assert "world_size was 2, is 1; set it as it was (torchrun --nproc-per-node=2 ...)" in error

    argv = ("-m", *line("whole", "hurt", "asked"), *parallel)
    code, said = torchrun("hurt_train.py", *argv, ACCIDENT="asked 16 1 ask")
    assert code == 1
    assert said.count("already finished") == said.count("resuming at step 9") == 1
    assert [run(name).state for name in ("hurt", "asked")] == ["finished", "interrupted"]
    assert run("asked").status["step"] in (16, 17)
    assert run("asked").status["message"] == "stopped by a signal"
    whole, hurt = run("whole"), run("hurt")
    assert_same(whole, hurt, exact=True)

    assert main(*line("alone")) == 0
    alone = run("alone")
    assert_same(whole, alone, exact=False)
    assert whole.run_id == alone.run_id
    assert verdict(whole).notes() == verdict(alone).notes()
    assert whole.manifest["fingerprint"]["world_size"] == 2
    assert "world_size" not in alone.manifest["fingerprint"]


def test_a_request_that_comes_while_they_agree_ends_all_a_step_later(as_one_of_two, monkeypatch):
    as_one_of_two(0)
    during = [lambda: stops.ask(signal.SIGTERM), lambda: None]
    monkeypatch.setattr(together.distributed, "all_reduce", lambda agreed, op: during.pop(0)())
    with stops.taken():
        assert [together.end(), together.end()] == [False, True]
        assert stops.asked_by() == signal.SIGTERM
    stops.forget()


@pytest.mark.parametrize(
    ("ending", "optim"), [("diverged", {"lr": 1e30, "warmup": 0.0, "clip": 0.0}), ("finished", {})]
)
def test_a_run_that_has_ended_stays_so_though_the_others_die_as_they_hear_of_it(
    config, monkeypatch, ending, optim
):
    made = config("hc", steps=20, train={"precision": "float32"}, optim=optim, runtime=OFTEN)
    end, tell = together.end, together.tell
    monkeypatch.setattr(together, "end", lambda over=False: lost() if over else end())
    monkeypatch.setattr(together, "tell", lambda start: tell(start) if start else lost())
    assert train(made) == RunDirectory.of(made).read_status()["status"] == ending
    assert not checkpoint_folder(made, RunDirectory.of(made)).exists()


def test_what_is_measured_before_a_first_step_that_fails_is_recorded_once(config, monkeypatch):
    made = config("hc")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", lost)
        assert train(made) == "lost"
    assert train(made) == "finished"
    run = read_run(RunDirectory.of(made).path)
    assert run.metrics["step"].is_unique
    assert not run.gains.duplicated(["step", "layer"]).any()


@pytest.mark.parametrize(
    ("status", "rank", "told"), [("running", 1, 1), ("running", 2, 0), ("interrupted", 1, 0)]
)
def test_the_death_of_the_first_process_is_told_once(
    status, rank, told, config, as_one_of_two, monkeypatch, capfd
):
    as_one_of_two(rank)
    left = config("hc")
    run = RunDirectory.of(left)
    run.path.mkdir(parents=True)
    run.write_status(status=status, step=1, steps=4)
    monkeypatch.setattr(together, "told", Mock(side_effect=together.Lost))
    assert follower.follow(left) == "lost"
    assert capfd.readouterr().err.count("its first process died; repeat the command") == told


@pytest.mark.parametrize(
    ("batch", "accumulate", "dropout", "said"),
    [
        (3, 1, 0.0, "data.batch=3: 2 processes cannot share it evenly; for example data.batch=2"),
        (6, 2, 0.0, "runtime.accumulate=2: must divide data.batch=6, in each of 2 processes"),
        (4, 1, 0.1, "torchrun --nproc-per-node=2: each part would draw masks of its own"),
    ],
)
def test_a_batch_that_cannot_be_shared(batch, accumulate, dropout, said, config, as_one_of_two):
    as_one_of_two(0)
    data, runtime, model = {"batch": batch}, {"accumulate": accumulate}, {"dropout": dropout}
    with pytest.raises(UserError, match=said):
        validate(config("hc", data=data, runtime=runtime, model=model))


def test_each_process_has_a_gpu_of_its_own(config, as_one_of_two, monkeypatch):
    as_one_of_two(1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    made = config("hc").runtime
    for made.device in ("auto", "cuda"):
        assert str(runtime.device_of(made)) == "cuda:1"
    made.device = "cuda:0"
    with pytest.raises(UserError, match=r"cuda:0: 2 processes would share it; use runtime.device=auto"):
        runtime.device_of(made)
    made.device = "cuda"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"2 processes on this machine and 1 GPU.*--nproc-per-node=1"):
        runtime.device_of(made)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UserError, match=r"device=cuda: torch sees no such device here; use .*device=cpu"):
        runtime.device_of(made)
    made.device = "cpu"
    monkeypatch.setattr(runtime, "cores", lambda: 8)
    assert (str(runtime.device_of(made)), runtime.default_threads()) == ("cpu", 4)


@pytest.mark.parametrize(
    ("rank", "line", "said"),
    [
        (0, "connection=hcc", "error: connection=hcc: "),
        (1, "connection=hcc", "rank 1: error: connection=hcc: "),
        (0, "-m hydra/launcher=joblib seed=0,1", "error: hydra/launcher=joblib: torchrun's 2 processes"),
    ],
)
def test_a_mistake_that_all_make_is_told_by_one(rank, line, said, main, as_one_of_two, monkeypatch, capfd):
    """The others wait before they tell: torchrun ends them first."""
    waited = []
    monkeypatch.setattr(ranks.time, "sleep", waited.append)
    as_one_of_two(rank)
    assert main(*line.split()) == 2
    assert capfd.readouterr().err.startswith(said)
    assert bool(waited) == (rank > 0)


@pytest.mark.parametrize("told", [None, "", "two", "-1", "1.5"])
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_what_torchrun_did_not_set_is_one_line(name, told, main, as_one_of_two, monkeypatch, capfd):
    as_one_of_two(0)
    monkeypatch.delenv(name) if told is None else monkeypatch.setenv(name, told)
    assert main("connection=hc") == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert error.startswith(
        f"error: {name}={told or ''}: torchrun sets it to a whole number; start with torchrun"
    )


def test_a_port_that_is_taken_is_one_line(as_one_of_two, monkeypatch):
    as_one_of_two(0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with pytest.raises(UserError, match=r"its 2 processes did not meet .*--master-port="):
            together.connect(torch.device("cpu"))
