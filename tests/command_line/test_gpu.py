"""make gpu, with the CPU in the GPU's place: what finishes within the lease is packed, the rest goes on later."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import gpu
from mhc_repro.command_line import cli, jobs
from mhc_repro.runs import read_runs
from tiny_runs import TINY
from two_processes import wait_until


def test_a_lease_leaves_an_archive_of_what_finished(elsewhere, tmp_path, monkeypatch, capfd):
    results, archive = tmp_path / "results", tmp_path / "gpu.tar"

    def states():
        return sorted(run.state for run in read_runs(results))

    class WhenOneHasFinished(threading.Thread):
        """In the place of the alarm, which would ring too soon on a busy machine."""

        def __init__(self, seconds, ring, given):
            super().__init__(daemon=True)
            assert (ring, given) == (os.kill, (os.getpid(), signal.SIGTERM))
            assert 0 < seconds < 60

        def run(self):
            wait_until(lambda: "finished" in states() and (results / "quick_gpu").exists())
            os.kill(os.getpid(), signal.SIGTERM)

        cancel = threading.Thread.join

    monkeypatch.setattr(gpu.threading, "Timer", WhenOneHasFinished)
    tiny = [each for each in TINY if not each.startswith("train.steps")]
    line = ["--device=cpu", "--studies=quick", "--steps=train", "--minutes=1", "--side=2", f"--out={archive}"]
    settings = ["connection=baseline", "train.steps=3,100000", f"runtime.results={results}"]
    assert gpu.main([*line, *tiny, *settings]) == 0
    assert states() == ["finished", "interrupted"]
    assert "gpu.tar: 1 of 2 runs" in capfd.readouterr().out
    assert cli.main(["import", str(archive), "--root", str(tmp_path / "kept")]) == 0
    (kept,) = read_runs(tmp_path / "kept")
    assert (kept.study, kept.state) == ("quick_gpu", "finished")


def test_a_lease_that_is_used_up_before_the_training_still_packs(elsewhere, tmp_path, capsys):
    settings = [*TINY, "connection=baseline", "train.steps=100000", f"runtime.results={tmp_path / 'results'}"]
    line = ["--device=cpu", "--studies=quick", "--steps=train", "--minutes=0.34", "--side=1"]
    assert gpu.main([*line, *settings]) == jobs.FAILED
    assert "nothing to pack" in capsys.readouterr().err


def test_runs_are_made_seed_by_seed_and_a_mistake_costs_no_minute(elsewhere, monkeypatch, capsys):
    made = gpu._configs(gpu._options(["--device=cpu", "connection=hc,baseline"]))
    order = [(config.seed, config.study, config.connection.name) for config in made]
    studies = ("stability_gpu", "stress_gpu")
    assert order == [(s, study, arm) for s in (0, 1) for study in studies for arm in ("baseline", "hc")]
    wrong_minutes = [f"--minutes={text}" for text in ("0", "-5", "nan", "inf", "ten", "0.3", "1e300")]
    monkeypatch.setattr(gpu, "_within", lambda *given: pytest.fail("minutes were spent"))
    monkeypatch.setattr(gpu, "_train", gpu._within)
    wrong_places = ["--out=no/such/folder/gpu.tar", "--out=.", "--out="]
    for mistake in ("--studies=stres", "--steps=chek", "--side=0", *wrong_minutes, *wrong_places):
        assert gpu.main(["--device=cpu", mistake]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert ("--out" in said) == (mistake in wrong_places)


def test_what_is_not_installed_is_left_out_and_said(monkeypatch, capsys):
    monkeypatch.setattr(gpu.subprocess, "Popen", lambda *given, **how: pytest.fail("was started"))
    gpu._within(0.0, "check", "no_such_package", "-m", "no_such_package")
    assert capsys.readouterr().err == "check: left out, there is no no_such_package here\n"


def test_what_a_step_has_started_ends_with_it(tmp_path, capsys):
    """The bench works in processes of processes, and one that is left would keep the card."""
    child, pid = tmp_path / "child.py", tmp_path / "pid"
    child.write_text(
        "import pathlib, subprocess, sys, time\n"
        "made = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(made.pid))\n"
        "time.sleep(60)\n"
    )
    gpu._within(time.monotonic() + 3, "bench", "rich", str(child))
    assert "cut off" in capsys.readouterr().err
    wait_until(lambda: not _lives(int(pid.read_text())), seconds=20)


def _lives(pid):
    """Say whether a process runs: one that nobody has waited for yet does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
