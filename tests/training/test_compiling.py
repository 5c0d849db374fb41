"""The step that compiles: kernels that break, and signals that come while they are made."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory
from mhc_repro.training import compiler, kernels
from mhc_repro.training.loop import train
from mhc_repro.training.model import Transformer
from mhc_repro.training.trainer import Trainer
from mhc_repro.words import LINE, SCREEN, WIDTH
from stopping import assert_ends_as_undisturbed, assert_same_run, elsewhere, interrupt
from tiny_runs import SCRIPT, TINY

pytestmark = pytest.mark.usefixtures("checkpoints_at_every_step")

# --- kernels that break -------------------------------------------------------------------------------------

HUGE = RuntimeError("x.cpp: error: no such thing\n" * 5000)


@pytest.fixture
def breaks(monkeypatch):
    """breaks(2): the next two steps fail as long as they are compiled; return when kernels were made anew."""
    made_anew = []

    def make(times):
        left, step = [HUGE] * times, Trainer.step

        def stepped(trainer):
            if left and getattr(trainer.model, "is_compiled", False):
                raise left.pop()
            return step(trainer)

        monkeypatch.setattr(Trainer, "step", stepped)
        return made_anew

    monkeypatch.setattr(compiler, "_faults", {torch.device("cpu"): ""})
    monkeypatch.setattr(Transformer, "compile_connections", lambda model: setattr(model, "is_compiled", True))
    monkeypatch.setattr(kernels, "start_over", made_anew.append)
    return make


AUTO = {"compile": "auto"}


def test_a_broken_kernel_is_made_anew_and_costs_nothing_but_a_line(config, breaks):
    broken, before = config("hc", runtime=AUTO), time.time()
    made_anew = breaks(1)
    assert_ends_as_undisturbed(broken)
    assert before <= made_anew[0] <= time.time()
    assert len(made_anew) == 1
    run = RunDirectory.of(broken)
    assert run.read_manifest()["fingerprint"]["compile"] is True
    said = "warning: compiling anew, for a kernel is broken: RuntimeError: x.cpp: error"
    assert said in run.log.read_text()


def test_where_new_kernels_break_too_the_run_goes_on_without(config, breaks, tmp_path):
    whole = elsewhere(config("hc"), tmp_path / "whole")
    assert train(whole) == "finished"
    broken = config("hc", runtime=AUTO)
    breaks(2)
    assert train(broken) == "finished"
    assert_same_run(broken, whole)
    run = RunDirectory.of(broken)
    assert run.read_manifest()["fingerprint"]["compile"] is False
    assert "on a CPU: a kernel does not work: RuntimeError: x.cpp: error: no such" in run.log.read_text()
    assert "made again" not in run.log.read_text()


def test_what_was_compiled_does_not_go_on_uncompiled_by_itself(config, breaks):
    broken = config("hc", runtime=AUTO)
    assert interrupt(broken, 2) == "interrupted"
    breaks(2)
    with pytest.raises(UserError, match=r"compile was True, is False; uncompiled: a kernel does not work: "):
        train(broken)
    assert RunDirectory.of(broken).state() == "interrupted"
    broken.runtime.resume = "any"
    assert train(broken) == "finished"
    assert RunDirectory.of(broken).read_manifest()["exact"] is False


def test_a_run_told_to_compile_ends_in_one_line(config, breaks):
    breaks(2)
    said = r"^runtime.compile=on: a kernel does not work: .*; use runtime.comp"
    with pytest.raises(UserError, match=said) as one:
        train(config("hc", runtime={"compile": "on"}))
    assert "\n" not in str(one.value)


@pytest.mark.parametrize("where", [(Trainer, "step"), (Trainer, "__init__")])
def test_no_more_than_a_screen_of_an_error_is_kept(config, monkeypatch, capsys, where):
    monkeypatch.setattr(*where, Mock(side_effect=HUGE))
    failing = config("hc")
    assert train(failing) == "failed"
    run = RunDirectory.of(failing)
    assert len(run.read_status()["message"]) <= LINE
    for text in (run.log.read_text() if run.log.exists() else "", capsys.readouterr().err):
        assert len(text.splitlines()) < SCREEN + 5
        assert all(len(line) < WIDTH + LINE for line in text.splitlines())


# --- stopped while kernels are made -------------------------------------------------------------------------

# A C++ compiler that answers what is asked of it, and takes its time over a kernel.
SLOW = """#!/bin/sh
case "$*" in *" -o "*) echo >>"$STARTED"; exec sleep 600;; esac
exec g++ "$@"
"""

# Loads torch once and forks a process group for each line it is given, with what one types for a run or the file of
# a config; says its pid and, later, its exit code.
SERVER = """
import json, os, pickle, sys
import torch._dynamo, torch._inductor.compile_fx
import train as typed
from mhc_repro.corpora import synthetic
from mhc_repro.training import compiler
from mhc_repro.training.loop import train

text = synthetic.text()
synthetic.text = lambda: text
compiler.configure()

def run(config):
    compiler._faults[torch.device("cpu")] = ""
    return ["finished", "interrupted", "failed"].index(train(config))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(2, 1)
        argv = json.loads(line)
        os._exit(typed.main(argv) if argv[1:] else run(pickle.load(open(argv[0], "rb"))))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server(NamedTuple):
    """A process that runs what it is told, and a compiler that is never done."""

    process: subprocess.Popen[str]
    said: Path
    begun: Path  # the compiler writes a line to it when it starts

    def stop(self, argv: list[str], there: Path, wait: float, number: int, to: Callable) -> tuple[int, str]:
        """Start a run, wait for a file and then some, signal; return the exit code and what was said."""
        self.begun.unlink(missing_ok=True)
        before = len(self.said.read_text())
        print(json.dumps(argv), file=self.process.stdin, flush=True)
        pid, limit = int(self.process.stdout.readline()), time.monotonic() + 600
        while not there.exists():
            assert time.monotonic() < limit, self.said.read_text()
            time.sleep(0.002)
        time.sleep(wait)
        asked = time.monotonic()
        to(pid, number)
        code = int(self.process.stdout.readline())
        assert time.monotonic() - asked < 300  # not when the compiler is done, after 600
        said = self.said.read_text()[before:]
        assert "Traceback" not in said
        return code, said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    program, begun, said = folder / "slow-c++", folder / "begun", folder / "said.txt"
    program.write_text(SLOW)
    program.chmod(0o755)
    beside = os.pathsep.join((str(SCRIPT.parents[1]), str(SCRIPT.parent)))
    settings = {"CXX": str(program), "STARTED": str(begun), kernels.KERNELS: str(folder / "kernels")}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said.open("w"),
        text=True,
        env={**os.environ, **settings, "PYTHONPATH": beside, "OMP_NUM_THREADS": "1"},
    )
    yield Server(process, said, begun)
    process.stdin.close()
    process.wait(60)


needs_gcc = pytest.mark.skipif(bool(compiler.missing_to_compile(torch.device("cpu"))), reason="no compiler")
TO_ITSELF, TO_ALL = os.kill, os.killpg  # as a scheduler does, as a terminal does


@needs_gcc
def test_a_signal_while_kernels_are_made_is_an_interruption_and_it_goes_on_later(config, server, tmp_path):
    """From before the first step to when the compiler is long at work."""
    stopped, random = config("hc", runtime=AUTO), np.random.Generator(np.random.Philox(1))
    run = RunDirectory.of(stopped)
    (tmp_path / "config.pickle").write_bytes(pickle.dumps(stopped))
    for number, to, there in (
        (signal.SIGINT, TO_ALL, server.begun),
        (signal.SIGINT, TO_ITSELF, run.path / "manifest.json"),
        (signal.SIGTERM, TO_ALL, run.path / "manifest.json"),
        (signal.SIGTERM, TO_ITSELF, server.begun),
    ):
        shutil.rmtree(run.path, ignore_errors=True)
        wait = random.uniform(0, 0.3)
        code, _ = server.stop([str(tmp_path / "config.pickle")], there, wait, number, to)
        status = run.read_status()
        assert (code, status["status"], status["step"]) == (1, "interrupted", 0), (number, to, wait)
        assert status["message"] == "stopped by a signal"
    stopped.runtime.compile = "off"
    assert train(stopped) == "finished"


@needs_gcc
def test_a_signal_while_the_compiler_is_tried_ends_it_and_the_exit_code_tells_so(server, tmp_path):
    where = [f"runtime.results={tmp_path / 'results'}", f"runtime.cache={tmp_path / 'cache'}"]
    argv = ["connection=hc", *TINY, "runtime.compile=auto", *where]
    code, said = server.stop(argv, server.begun, 0, signal.SIGTERM, TO_ALL)
    assert code == 128 + signal.SIGTERM
    assert said.splitlines()[-1].endswith("repeat the command to go on")
    status = next((tmp_path / "results").glob("*/*/status.json"))
    assert json.loads(status.read_text())["status"] == "interrupted"
