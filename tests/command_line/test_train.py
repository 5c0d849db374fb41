"""experiments/train.py as one types it: plans, exit codes, stops, and nothing left lying about."""

import os
import signal
from unittest.mock import Mock

import pytest

from mhc_repro.command_line.compose import compose_jobs
from mhc_repro.corpora import synthetic
from mhc_repro.errors import UserError
from mhc_repro.runs import read_runs
from mhc_repro.training import stops
from tiny_runs import TINY, assert_no_litter


@pytest.mark.parametrize(
    "line",
    [
        "connection=mhc seed=1 train.steps=100",
        "connection=mhc connection.mixing.order=rows_first",  # which its file does not say
        "-m connection=baseline,mhc seed=0,1",
        "-m study=quick seed=5",
        "seed=0,1 -m connection=baseline",
        "study=quick connection=glob(mhc_l*)",
    ],
)
def test_what_is_planned_is_what_runs(line, main, trained, elsewhere):
    assert main(*line.split()) == 0
    assert trained == compose_jobs(line.split())
    assert_no_litter(elsewhere)


def test_a_recorded_study_lets_one_choose_a_run_and_how_it_is_executed(main, trained):
    assert main("study=stability", "connection=mhc", "seed=2", "runtime.threads=1", "hydra.mode=RUN") == 0
    assert [(each.connection.name, each.seed, each.study) for each in trained] == [("mhc", 2, "stability")]


def test_multirun_shows_its_plan_first(main, trained, capsys):
    main("-m", "connection=baseline,hc", "seed=0")
    out, err = capsys.readouterr()
    assert "2 runs: 2 to do" in out
    assert err.splitlines() == ["job 1: connection=baseline", "job 2: connection=hc"]
    main("connection=hc")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("endings", "code", "ran"),
    [
        (["finished", "diverged"], 0, 2),
        (["failed", "finished"], 1, 2),
        (["interrupted", "finished"], 130, 1),
        ([UserError("no GPU here; use runtime.device=cpu"), "finished"], 2, 2),
        ([KeyboardInterrupt, "finished"], 130, 1),
        ([RuntimeError("of nobody's making"), "finished"], 1, 2),
    ],
)
def test_exit_code(endings, code, ran, main, instead_of_training, capsys, tmp_path):
    train = Mock(side_effect=endings)
    instead_of_training(train)
    assert main("-m", "seed=0,1", f"runtime.results={tmp_path}") == code
    assert train.call_count == ran
    err = capsys.readouterr().err
    assert ("error: no GPU here; use runtime.device=cpu\n" in err) == (code == 2)
    assert ("RuntimeError: of nobody's making" in err) == any(
        isinstance(end, RuntimeError) for end in endings
    )


def test_a_stop_at_the_end_of_a_run_begins_no_other(main, instead_of_training):
    def train(config):
        with stops.taken():
            os.kill(os.getpid(), signal.SIGTERM)
        return "finished"

    instead_of_training(train)
    assert main("-m", "seed=0,1") == 143
    assert main("seed=0") == 0  # what was asked for is done


def test_a_job_whose_time_is_up_is_saved_before_it_is_queued_again(main, instead_of_training):
    """As submitit is told it: its own handler queues the job again, and leaves."""
    done = []

    def train(config):
        with stops.taken():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert stops.requested()
            done.append("saved")
        return "interrupted"

    instead_of_training(train)
    before = signal.signal(signal.SIGUSR2, lambda *_: done.append("queued"))
    try:
        assert main("seed=0") == 128 + signal.SIGUSR2
        assert done == ["saved", "queued"]
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--cfg job connection=mhc", "kind: sinkhorn"),
        ("--cfg job --package optim", "lr: 0.0003"),
        ("--cfg hydra", "output_subdir: null"),
        ("--help", ", baseline, baseline_quarter, "),
        ("--hydra-help", "--multirun"),
        ("--info defaults", "protocol/reference"),
    ],
)
def test_hydra_shows_what_it_always_shows(line, shown, main, trained, elsewhere, capfd):
    assert main(*line.split()) == 0
    assert shown in capfd.readouterr().out
    assert not trained
    assert_no_litter(elsewhere)


def test_real_runs_leave_their_folders_and_nothing_else(
    main, elsewhere, tmp_path, synthetic_text, monkeypatch
):
    monkeypatch.setattr(synthetic, "text", synthetic_text)
    argv = ("-m", "connection=baseline,mhc", "seed=0", *TINY, f"runtime.results={tmp_path / 'results'}")
    assert main(*argv) == 0
    runs = [(run.study, run.connection, run.state) for run in read_runs(tmp_path / "results")]
    assert runs == [("scratch", arm, "finished") for arm in ("baseline", "mhc")]
    assert_no_litter(elsewhere)
