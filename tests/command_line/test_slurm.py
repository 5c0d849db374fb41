"""A study over a real Slurm: a run fails, two are queued again, and what finishes has the bits of a local run."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mhc_repro.command_line import cli
from mhc_repro.command_line.compose import CONF, check_command_line, compose_jobs
from mhc_repro.cores import cores
from mhc_repro.places import LOCAL
from mhc_repro.runs import RunDirectory, read_run
from slurm import cluster
from tiny_runs import SCRIPT, TINY
from two_processes import assert_same, wait_until

SHORT, LONG = 5, 1000  # so long that none ends before it is put back
REST = [each for each in TINY if not each.startswith("train.steps")]
STUDY = ("connection=hc", f"train.steps={SHORT},{LONG},{LONG + 1}", *REST)


@pytest.fixture(scope="module")
def slurm():
    with cluster() as config:
        yield config


def asked(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def state_of(job: str) -> str:
    (state,) = re.findall(r"JobState=(\w+)", asked("scontrol", "show", "job", job))
    return state


def test_a_study_over_slurm(slurm, main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_CONF", str(slurm))
    line = ["-m", *STUDY, "probe.every=50", f"runtime.results={tmp_path / 'results'}"]
    runs = [RunDirectory.of(config) for config in compose_jobs(line)]
    hurt, long = runs[0], {1: runs[1], 2: runs[2]}

    def begun() -> list[int]:
        return [number for number, run in long.items() if (run.path / "metrics.jsonl").exists()]

    hurt.log.mkdir(parents=True)  # it cannot be written to
    submit = [sys.executable, str(SCRIPT), *line, "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1"]
    with subprocess.Popen(submit, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # One hears, as at the end of its time, that it is to be queued again; the other makes room for the urgent.
        wait_until(lambda: bool(begun()))
        (job,) = set(asked("squeue", "--noheader", "--format=%F").split())
        first = f"{job}_{begun()[0]}"
        asked("scancel", "--signal=USR2", first)
        wait_until(lambda: "Restarts=1" in asked("scontrol", "show", "job", first) and len(begun()) == 2)
        asked("sbatch", "--partition=urgent", "--exclusive", f"--output={tmp_path / 'log'}", "--wrap=true")
        # Meanwhile: what was put back may not begin at once.
        assert main(*line[:-1], f"runtime.results={tmp_path / 'local'}") == 0
        out, err = process.communicate(timeout=600)
    assert process.returncode == 1, err
    assert "what the jobs print is in " in out
    assert err.splitlines()[-1] == f"1 of 3 runs did not finish: {hurt.run_id} (interrupted)"
    assert all("resuming at step" in run.log.read_text() for run in long.values())

    capsys.readouterr()
    assert cli.main(["ls", "--failed", "--root", str(tmp_path / "results")]) == 0
    line_of_run, log = capsys.readouterr().out.splitlines()
    assert line_of_run == f"{hurt.path}  interrupted at 0/{SHORT}: ended without a word"
    assert f"{hurt.log}: Is a directory; make room" in Path(log.strip()).read_text()

    hurt.log.rmdir()
    assert cli.main(["plan", "--lines", *line]) == 0
    (tmp_path / "runs.txt").write_text(capsys.readouterr().out)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.chdir(CONF.parent)  # from where it is submitted
    array = ["--array=1-1", "--cpus-per-task=1", f"--output={tmp_path / 'array'}", "experiments/array.sh"]
    job = asked("sbatch", "--parsable", *array, str(tmp_path / "runs.txt")).strip()
    # Not `sbatch --wait`, which looks after 2 s, 10 s and 42 s alone.
    under_way = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
    wait_until(lambda: state_of(job) not in under_way, seconds=600)
    assert state_of(job) == "COMPLETED"
    for run in runs:
        one, other = read_run(run.path), read_run(tmp_path / "local" / "scratch" / run.run_id)
        assert "log" not in one.status
        assert_same(one, other, exact=True)


def test_a_line_is_a_run(main, capsys, tmp_path):
    (tmp_path / "my studies" / "study").mkdir(parents=True)
    text = 'defaults: []\nstudy: mine\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: "0,1"}}}\n'
    (tmp_path / "my studies" / "study" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    line = ["--config-dir", str(tmp_path / "my studies"), "study=mine", "optim.betas=[0.5,0.9],[0.9,0.95]"]
    assert cli.main(["plan", "--lines", *line]) == 0
    lines = [shlex.split(each) for each in capsys.readouterr().out.splitlines()]
    assert [compose_jobs(each) for each in lines] == [[each] for each in compose_jobs(line)]
    assert len(lines) == 4


def test_where_no_run_is_left_there_is_no_line_and_it_is_said_why(main, capsys, tmp_path):
    line = ["-m", "study=quick", "connection=baseline", "seed=0", f"runtime.results={tmp_path}"]
    (config,) = compose_jobs(line)
    folder = RunDirectory.of(config).path
    shutil.copytree(CONF.parent / "results" / "quick" / folder.name, folder)
    assert cli.main(["plan", "--lines", *line]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nothing to do; to train it anew")
    assert err.count("\n") == 1
    (folder / "status.json").write_text("{")
    assert cli.main(["plan", "--lines", *line]) == 0
    assert capsys.readouterr().out.count("\n") == 1  # its own turn says that it is damaged
    (folder / "status.json").unlink()
    assert cli.main(["plan", "--lines", *line]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")


def test_what_the_page_submits_is_not_recorded():
    page = (CONF.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
    command = r"^(?:mhc-repro plan|python experiments/train.py)(?: --lines)? (-m [^#>\n]*)"
    commands = re.findall(command, page, re.M)
    assert len(commands) == 3
    for command in commands:
        configs = compose_jobs(shlex.split(command))
        assert len(configs) == 4
        assert {config.runtime.results for config in configs} == {LOCAL}


@pytest.mark.parametrize(
    ("launcher", "each"),
    [
        ("hydra/launcher=slurm", "2 cores, 4 h 0 min at a time"),
        ("hydra/launcher=slurm_gpu hydra.launcher.timeout_min=90", "1 GPU, 4 cores, 1 h 30 min at a time"),
        ("hydra/launcher=submitit_slurm", "1 h 0 min at a time"),
    ],
)
def test_the_plan_says_what_slurm_is_asked_for(launcher, each):
    sweep = check_command_line(["-m", "seed=0,1", *launcher.split()])
    assert sweep.how == f"in all, as jobs of Slurm that have {each}"
    assert sweep.queue is not None
    assert sweep.queue.folder.name == ".submitit"


def test_a_job_has_the_cores_it_asked_for(monkeypatch):
    """A Slurm that does not hold jobs to their cores would have each use all of the node."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8), raising=False)
    assert cores() == 8
    for asked, count in {"2": 2, "16": 8, "": 8, "two": 8, "2(x3)": 8, "0": 8, "-1": 8}.items():
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
        assert cores() == count


@pytest.mark.parametrize("given", [["no-such.txt"], ["/"], []])
def test_an_array_without_its_file_is_one_line(given):
    command = ["bash", str(CONF.parent / "experiments" / "array.sh"), *given]
    alone = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    named = given[0] if given else "no file"
    assert done.stderr == f"error: {named}: cannot be read; give the file of mhc-repro plan --lines\n"


@pytest.mark.parametrize("turn", ["0", "3"])
def test_a_turn_without_a_line_trains_nothing(turn, tmp_path):
    (tmp_path / "runs.txt").write_text("seed=0\nseed=1\n")
    command = ["bash", str(CONF.parent / "experiments" / "array.sh"), str(tmp_path / "runs.txt")]
    alone = {"PATH": "/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": turn}
    done = subprocess.run(command, env=alone, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith(f"has no line {turn}; submit with --array=1-2")
