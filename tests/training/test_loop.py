"""What a run leaves behind: its tables, what a verdict needs, and a divergence, which is a result."""

import errno
import itertools
import math
import shutil
import signal
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import RunDirectory, files, read_run
from mhc_repro.training import memory, runtime, trainer
from mhc_repro.training.checkpoint import Checkpoints, checkpoint_folder
from mhc_repro.training.loop import train
from mhc_repro.training.session import Session
from mhc_repro.training.trainer import Trainer
from stopping import OFTEN, Killed, kill

FLOAT32 = {"precision": "float32"}
DIVERGES = {"lr": 1e30, "warmup": 0.0, "clip": 0.0}
DIVERGES_LATE = {"lr": 1e30, "warmup": 0.0, "final_lr": 1.0}
FULL = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))


def test_a_finished_run_holds_what_was_measured(config):
    done = config("mhc", steps=5, train={"val_every": 3})  # probed at 0, 2, 4, 5; token maps at 0 and 5
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert train(done) == "finished"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    run = RunDirectory.of(done)
    metrics, gains, tokens = (run.table(name).read() for name in ("metrics", "gains", "tokens"))
    assert metrics["step"].tolist() == list(range(6))
    probed = [0, 2, 4, 5]
    due = {"loss/train": [1, 2, 3, 4, 5], "loss/val": [0, 3, 5], "bpc/test": [5]}
    for column, steps in {"gain/composite_forward": probed, **due}.items():
        assert metrics.loc[metrics[column].notna(), "step"].tolist() == steps
    for table, steps in ((gains, probed), (tokens, [0, 5])):
        places = list(zip(table["step"], table["layer"], strict=True))
        assert places == list(itertools.product(steps, [1, 2, 3, 4]))
    largest = gains.groupby("step")["composite_backward"].max()
    assert metrics.set_index("step")["gain/composite_backward"].dropna().tolist() == largest.tolist()
    assert {len(row) for row in gains["h_forward"]} == {16}
    assert {len(row) for row in tokens["h_res"]} == {3 * 16}
    status, manifest = run.read_status(), run.read_manifest()
    assert status.items() >= {"status": "finished", "step": 5, "steps": 5}.items()
    assert not {"dead", "degenerate", "control"} & status.keys()
    assert manifest["nature"] == {"doubly_stochastic": True, "exchangeable": False}
    assert manifest["run_id"] == run.run_id
    assert manifest["parameters"]["connection"] == 4 * (96 * 8 + 24 + 3)
    assert manifest["exact"] is True
    assert manifest["data_sha256"] == done.data.sha256
    assert [session["from_step"] for session in manifest["sessions"]] == [0]


def test_what_is_dead_and_what_is_a_control_follows_from_what_was_recorded(config):
    def dead_and_control(arm: str, **changes):
        made = config(arm, optim={"lr": 1e-3}, **changes)
        assert train(made) == "finished"
        found = verdict(read_run(RunDirectory.of(made).path))
        return found.dead, found.control

    sound, alike = ((), ("h_res_identity",)), (("streams_never_separated",), ("h_res_identity",))
    assert dead_and_control("identity") == sound
    assert dead_and_control("identity", read_start=[0, 0], write_start=[0, 0]) == alike
    assert dead_and_control("mhc", freeze=["mix"]) == sound


@pytest.mark.parametrize("of", ["hc", "history_simplex"])  # the latter's weights sort what is NaN
def test_a_divergence_is_a_result(of, config, capsys):
    diverging = config(of, steps=50, train=FLOAT32, optim=DIVERGES)
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


@pytest.mark.parametrize(
    "lacking",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")],
)
def test_a_divergence_is_one_where_there_is_no_memory_to_say_where(config, monkeypatch, lacking):
    monkeypatch.setattr(trainer, "first_break", Mock(side_effect=lacking))
    diverging = config("hc", steps=50, train=FLOAT32, optim=DIVERGES)
    assert train(diverging) == "diverged"
    assert RunDirectory.of(diverging).read_status()["broke"].startswith("nowhere, for want of memory")


def test_what_memory_cannot_hold_is_a_mistake(config, monkeypatch):
    with pytest.raises(UserError, match=r"model.dim=1048576 .* more than the memory of this machine"):
        train(config("baseline", model={"dim": 2**20, "blocks": 4096}))
    said = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 9 bytes"
    monkeypatch.setattr(Trainer, "step", Mock(side_effect=RuntimeError(said)))
    with pytest.raises(UserError, match=r"data.batch=2 .* choose less"):
        train(config("baseline"))


def test_the_least_that_a_step_takes_is_weights_four_times_and_logits_or_streams(config):
    """In float32: a block's 12 C^2 at mlp_ratio 4, the embedding, and of a part of the batch the larger of both."""
    model = {"blocks": 3, "dim": 8, "mlp_ratio": 4}
    weights = 4 * (3 * 12 * 8**2 + 256 * 8)
    for n, parts, numbers in ((4, 1, 256), (64, 1, 64 * 8), (64, 2, 64 * 8)):
        made = config("hc", n=n, model=model, data={"batch": 4}, runtime={"accumulate": parts})
        assert memory.least(made) == 4 * (weights + 4 // parts * 6 * numbers)


def test_a_divergence_at_the_last_update_is_one_too(config):
    """The loss of the last batch is still finite; the model that the run leaves is not."""
    assert train(config("hc", steps=1, train=FLOAT32, optim=DIVERGES_LATE)) == "diverged"


def test_weights_that_are_no_numbers_are_a_divergence(config, monkeypatch):
    """After the last update, where only the measurements see them."""
    made = config("history_simplex", steps=2, train=FLOAT32)
    step = Trainer.step

    def poisoned(self):
        row = step(self)
        for _, parameter in self.model.connection_parameters() if self.done == 2 else ():
            parameter.data.fill_(math.nan)
        return row

    monkeypatch.setattr(Trainer, "step", poisoned)
    assert train(made) == "diverged"


@pytest.mark.parametrize(("ending", "optim"), [("finished", {}), ("diverged", DIVERGES_LATE)])
def test_a_run_that_has_ended_keeps_no_checkpoints(config, monkeypatch, ending, optim):
    """Even where it was killed as they were about to go."""
    done = config("hc", steps=3, train=FLOAT32, optim=optim, runtime=OFTEN)
    folder = checkpoint_folder(done, RunDirectory.of(done))
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "drop", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            train(done)
    assert list(folder.iterdir())
    for _ in range(2):  # cleared by the next start; by the run itself
        assert train(done) == ending
        assert not folder.exists()
        shutil.rmtree(RunDirectory.of(done).path)


def test_a_finished_run_without_its_status_is_not_trained_over(config):
    done = config("baseline")
    train(done)
    run = RunDirectory.of(done)
    (run.path / "status.json").unlink()
    before = run.table("metrics").parquet.read_bytes()
    with pytest.raises(UserError, match=r"status\.json: no such file"):
        train(done)
    assert run.table("metrics").parquet.read_bytes() == before


def test_what_cannot_be_written_is_one_line(config, monkeypatch):
    refused = config("baseline")
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", FULL)
        with pytest.raises(UserError, match=r"No space left .*runtime\.results=") as error:
            train(refused)
    assert "\n" not in str(error.value)
    assert train(refused) == "finished"


def test_a_disk_that_fills_while_it_trains_is_one_line_and_the_run_goes_on_later(config, monkeypatch):
    refused = config("baseline")
    run = RunDirectory.of(refused)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "_measure", FULL)
        with pytest.raises(UserError, match=r"No space left .*runtime\.results="):
            train(refused)
    assert run.state() == "interrupted"
    assert train(refused) == "finished"


def test_progress_without_its_checkpoint_is_not_thrown_away_in_silence(config, capsys, tmp_path):
    stopped = config("baseline", runtime=OFTEN)
    kill(stopped, 3)
    stopped.runtime.cache = str(tmp_path / "another")
    capsys.readouterr()
    assert train(stopped) == "finished"
    said = " ".join(capsys.readouterr().err.split())
    assert f"warning: no checkpoint in {tmp_path / 'another'}" in said
    assert "steps are made again" in said
    assert "runtime.cache=" in said


def test_a_failure_before_the_first_step_is_recorded(config, monkeypatch, capsys):
    failing = config("baseline")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "__init__", Mock(side_effect=ZeroDivisionError("as a test wanted it")))
        assert train(failing) == "failed"
    assert "as a test wanted it" in capsys.readouterr().err
    found = read_run(RunDirectory.of(failing).path)
    assert found.state == "failed"
    assert (found.status["step"], found.status["steps"]) == (0, 4)
    assert "as a test wanted it" in found.status["message"]
    assert train(failing) == "finished"


@torch._dynamo.config.patch(recompile_limit=3)
def test_a_sweep_over_many_shapes_in_one_process_compiles_each(config, monkeypatch):
    """The compiler keeps a few variants of a function and, asked for one graph, fails at the next."""
    real = torch.compile
    monkeypatch.setattr(runtime, "compiles", lambda *_: True)
    eager = {"backend": "eager", "options": None}
    monkeypatch.setattr(torch, "compile", lambda function, **how: real(function, **how | eager))
    for dim in range(2, 12, 2):
        shape = config("identity", n=2, steps=1, model={"dim": dim, "blocks": 1})
        assert train(shape) == "finished"
