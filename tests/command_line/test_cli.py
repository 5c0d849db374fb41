"""mhc-repro: each subcommand on committed runs, and its mistakes in one line."""

import dataclasses
import re
import shutil
import subprocess
import sys
from math import isnan
from operator import sub
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from mhc_repro import places
from mhc_repro.command_line import cli, compose, inspection
from mhc_repro.corpora import enwik8
from mhc_repro.errors import UserError
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import Run, plan, read_runs
from mhc_repro.training import compiler, kernels
from one_line import assert_one_line

ROOT = Path(__file__).parents[1] / "support" / "fixture"
RUNS = {run.connection: run for run in read_runs(ROOT)}
MHC, HC = RUNS["mhc"].run_id, RUNS["hc"].run_id


def changed(arm: str, **fields: Any) -> Run:
    return dataclasses.replace(RUNS[arm], **fields)


def call(*argv: str) -> int:
    return cli.main(argv)


def at_root(command: str, *argv: str) -> int:
    return call(command, *argv, "--root", str(ROOT))


def test_ls_lists_and_show_shows_every_run_with_its_state(capsys):
    assert at_root("ls") == 0
    listed = capsys.readouterr().out
    for run in RUNS.values():
        assert run.run_id in listed
        assert run.state in listed
        assert at_root("show", run.run_id) == 0
        assert run.state in capsys.readouterr().out


def test_ls_tells_recorded_runs_from_ones_own(tmp_path, monkeypatch, capsys):
    study, roots = RUNS["hc"].study, ("results", "results/local")
    for root in roots:
        shutil.copytree(ROOT / study, tmp_path / root / study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "DEFAULT_ROOTS", [str(tmp_path / root) for root in roots])
    assert call("ls") == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    for root in roots:
        assert [f"{root}/{study}", HC] in listed


def test_ls_filters(capsys):
    at_root("ls", "--status", "failed")
    out, err = capsys.readouterr()
    assert out == ""
    assert "no such runs" in err
    at_root("ls", "--study", RUNS["hc"].study)
    assert HC in capsys.readouterr().out
    assert at_root("ls", "--study", "nope") == 2
    assert "there are fixture" in capsys.readouterr().err


def test_show_by_id_prefix_study_and_folder(capsys):
    shown = []
    for name in (MHC, MHC[:8], f"{RUNS['mhc'].study}/{MHC[:8]}", str(ROOT / RUNS["mhc"].study / MHC)):
        assert at_root("show", name) == 0
        shown.append(capsys.readouterr().out)
    assert len(set(shown)) == 1
    assert "name: mhc" in shown[0]
    bpc = inspection.numbers(RUNS["mhc"])["test bpc"]
    assert re.search(rf"test bpc +{bpc:.5g} +bits per symbol", shown[0])


def test_what_is_wrong_with_a_run_is_said_with_its_meaning():
    ((word, meaning),) = verdict(RUNS["mhc"]).meanings()
    assert word == "dead"
    assert meaning.startswith("streams_never_separated: nothing but rounding tells the streams apart")
    assert verdict(RUNS["baseline"]).meanings() == []


def test_find_suggests_what_is_near_and_refuses_to_guess():
    runs = list(RUNS.values())
    with pytest.raises(UserError, match=f"nearest: .*{MHC}"):
        inspection.find("mch-s0", runs, {})
    with pytest.raises(UserError, match="6 runs are called so"):
        inspection.find("", runs * 2, {})
    assert inspection.find("hc-", runs, {}).run_id == HC


def test_a_run_in_two_studies_is_told_apart_by_study(tmp_path):
    here, there = (changed("hc", path=tmp_path / study / HC) for study in ("here", "there"))
    with pytest.raises(UserError, match=f"name one of them: here/{HC}, there/{HC}"):
        inspection.find(HC, [here, there], {})
    assert inspection.find(f"there/{HC}", [here, there], {}) is there


def test_compare_names_what_differs_and_pairs_the_losses(capsys):
    assert at_root("compare", HC, MHC) == 0
    out = capsys.readouterr().out
    assert "connection.name" in out
    assert "model.dim" not in out
    losses = (RUNS[arm].metrics.set_index("step")["loss/train"] for arm in ("mhc", "hc"))
    gap = sub(*losses).dropna()
    last = gap.iloc[-max(1, len(gap) // 10) :]
    assert f"paired on {len(gap)} batches" in out
    assert f"is {last.mean():+.3g} nats" in out


def test_who_is_lower_and_how_often_is_said():
    worse, better = changed("hc"), changed("mhc")
    for run, loss in ((worse, 3.0), (better, 2.0)):
        vars(run)["metrics"] = run.metrics.assign(**{"loss/train": loss})
    assert "B is lower on 100 %" in inspection.paired(worse, better)
    assert "B is lower on 0 %" in inspection.paired(better, worse)


def test_runs_without_a_step_are_paired_all_the_same():
    run = changed("hc")
    vars(run)["metrics"] = run.metrics.head(1).drop(columns="loss/train")
    assert inspection.paired(RUNS["mhc"], run) == "paired, but no step in common yet"


def test_validation_is_never_compared_with_a_test():
    run = changed("mhc", state="diverged")
    vars(run)["metrics"] = run.metrics.drop(columns="bpc/test")
    one, other = inspection.numbers(RUNS["mhc"]), inspection.numbers(run)
    assert (one["test bpc"], isnan(other["test bpc"])) == (values(RUNS["mhc"])["bpc"], True)
    assert other["validation bpc, last"] == one["validation bpc, last"]


def test_compare_refuses_to_pair_other_batches():
    other = changed("hc", config={**RUNS["hc"].config, "seed": 7})
    assert inspection.paired(RUNS["mhc"], other).startswith("not paired")
    assert "seed" in inspection.paired(RUNS["mhc"], other)
    # one hash, for the bytes of both corpora are those of enwik8
    characters = {**RUNS["hc"].config["data"], "name": "enwik8_characters"}
    other = changed("hc", config={**RUNS["hc"].config, "data": characters})
    assert inspection.paired(RUNS["mhc"], other).endswith("since they differ in data.name")


def test_plan_has_the_grammar_of_training(monkeypatch, capsys):
    monkeypatch.setattr(places, "DEFAULT_ROOTS", ())
    line = ["-m", "connection=hc,mhc", "protocol=small"]
    assert call("plan", *line) == 0
    assert capsys.readouterr().out == plan.table(plan.plan(compose.compose_jobs(line))) + "\n"
    assert call("plan", "study=quick") == 0
    assert "3 runs" in capsys.readouterr().out


def test_data_says_where_it_is(tmp_path, monkeypatch, capsys):
    path = tmp_path / "enwik8"
    path.write_bytes(b"text")
    asked = []
    monkeypatch.setattr(enwik8, "fetch", lambda *given, option: asked.append((*given, option)) or path)
    assert call("data", "--from", "mine.zip", "--cache", str(tmp_path)) == 0
    assert asked == [("mine.zip", tmp_path, "--from ")]
    assert capsys.readouterr().out == f"{path}  100,000,000 bytes  sha256 {enwik8.SHA256}\n"


@pytest.fixture
def compiler_fault(monkeypatch, tmp_path):
    """What is wrong with the compiler, else nothing; whoever trusts an earlier proof is not told."""
    found = []
    monkeypatch.setattr(compiler, "fault", lambda _, __, trusting: "" if trusting else "; ".join(found))
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path / "kernels"))
    return found


def test_doctor_tells_whether_the_compiler_works(tmp_path, compiler_fault, capsys):
    assert call("doctor", "--cache", str(tmp_path)) == 0
    assert f"yes, kernels in {tmp_path / 'kernels'}" in capsys.readouterr().out
    compiler_fault.append("a small kernel does not work: ImportError: file too short")
    assert call("doctor", "--cache", str(tmp_path)) == 0
    assert "no: a small kernel does not work: ImportError: file too short" in capsys.readouterr().out


def test_doctor_notices_a_broken_data_set(tmp_path, compiler_fault, capsys):
    assert call("doctor", "--cache", str(tmp_path / "none")) == 0
    assert "not there yet" in capsys.readouterr().out
    (tmp_path / "enwik8").write_bytes(b"short")
    assert call("doctor", "--cache", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "5 bytes instead of 100,000,000" in out
    for word in ("torch", "threads", "device", "GB free", str(tmp_path)):
        assert word in out


def test_verify_hands_on_the_exit_code(monkeypatch):
    run = Mock(return_value=subprocess.CompletedProcess([], 1))
    monkeypatch.setattr(subprocess, "run", run)
    assert call("verify") == 1
    (command,) = run.call_args.args
    assert command[1:] == [str(compose.CONF.parent / "experiments" / "report.py"), "--verify"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "COMMAND"),
        (["lss"], "'ls'"),
        (["ls", "extra"], "extra"),
        (["ls", "--status", "done"], "'finished', 'diverged', 'failed', 'missing'"),
        (["ls", "--root", "/no/such/folder"], "/no/such/folder"),
        (["ls", "--root", "~nobody-here/x"], "~nobody-here/x"),
        (["data", "--from", "~nobody-here/x"], "~nobody-here/x"),
        (["data", "--from", "/no/such/file"], "--from /no/such/file: No such file"),
        (["ls", "--root", ""], "argument --root: must not be empty; see mhc-repro ls --help"),
        (["ls", "--study="], "--study: must not be empty"),
        (["show", ""], "RUN: must not be empty"),
        (["compare", MHC, ""], "B: must not be empty"),
        (["data", "fineweb", "--from", ""], "--from: must not be empty"),
        (["show", str(compose.CONF)], "conf the folder of a run?"),
        (["doctor", "--cache", "~nobody-here/x"], "~nobody-here/x"),
        (["show", "--root", str(ROOT), "nothing-like-it"], "nothing-like-it"),
        (["compare", "--root", str(ROOT), MHC], "B"),
        (["plan", "connection=mch"], "connection=mhc"),
        (["plan", "seed=0,1"], "-m"),
        (["plan", "--lines", "--cfg", "job"], "settings alone"),
    ],
)
def test_mistake_is_one_line(argv, said, capsys):
    assert call(*argv) == 2
    assert_one_line(capsys, said)


def test_looking_needs_no_torch():
    of_runs = [path.stem for path in Path(plan.__file__).parent.glob("[a-z]*.py")]
    look = f"cli.main(['ls', '--root', {str(ROOT)!r}]); from mhc_repro.runs import {', '.join(of_runs)}"
    code = f"import sys; from mhc_repro.command_line import cli; {look}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
