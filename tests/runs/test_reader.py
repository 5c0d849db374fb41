"""What is on disk is what is listed: in one order, broken folders named and left out."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory, read_run, read_runs

MakeConfig = Callable[..., Config]
MakeRun = Callable[..., RunDirectory]
ARMS = ["kromhc", "mhc", "hc", "cayley", "identity", "baseline"]


def test_a_run_reads_back(make_config: MakeConfig, make_run: MakeRun) -> None:
    run = read_run(str(make_run(make_config("hc", 5, study="stability")).path))
    assert (run.study, run.connection, run.seed, run.state) == ("stability", "hc", 5, "finished")
    assert run.config["train"]["steps"] == 4
    assert run.manifest["commit"] == "c0ffee"
    assert run.metrics["step"].tolist() == [0, 1, 2, 3, 4]
    assert run.metrics is run.metrics
    assert run.gains["layer"].tolist() == run.tokens["layer"].tolist() == [1]


def test_runs_come_by_study_arm_and_seed(make_config: MakeConfig, make_run: MakeRun, tmp_path: Path) -> None:
    for study in ("b", "a"):
        for arm in ARMS:
            for seed in (10, 2):
                make_run(make_config(arm, seed, study=study))
    found = [(run.study, run.connection, run.seed) for run in read_runs(tmp_path / "results")]
    assert found == [(study, arm, seed) for study in "ab" for arm in sorted(ARMS) for seed in (2, 10)]
    assert {run.study for run in read_runs(tmp_path / "results", "b")} == {"b"}
    assert read_runs(tmp_path / "nowhere") == []


def break_config(run: RunDirectory) -> None:
    (run.path / "config.yaml").write_text("seed: [")


def empty_config(run: RunDirectory) -> None:
    (run.path / "config.yaml").write_text("- seed\n")


def edit_config(run: RunDirectory) -> None:
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("steps: 4", "steps: 5"))


def newer_config(run: RunDirectory) -> None:
    with (run.path / "config.yaml").open("a") as file:
        file.write("router: {experts: 4}\n")


def hollow_config(run: RunDirectory) -> None:
    path = run.path / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"model": None}))


def odd_config(run: RunDirectory) -> None:
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("steps: 4", "steps: 2026-01-01"))


def lose_config(run: RunDirectory) -> None:
    (run.path / "config.yaml").unlink()


def break_status(run: RunDirectory) -> None:
    (run.path / "status.json").write_text('{"status": "fin')


def break_metrics(run: RunDirectory) -> None:
    (run.path / "metrics.parquet").write_bytes(b"PAR1")


def lose_gains(run: RunDirectory) -> None:
    (run.path / "gains.parquet").unlink()


def lose_manifest(run: RunDirectory) -> None:
    (run.path / "manifest.json").unlink()


def copy(run: RunDirectory) -> None:
    shutil.copytree(run.path, run.path.with_name(run.run_id + "-old"))


@pytest.mark.parametrize(
    "damage",
    [
        break_config,
        empty_config,
        edit_config,
        newer_config,
        hollow_config,
        odd_config,
        lose_config,
        break_status,
        break_metrics,
        lose_gains,
        lose_manifest,
        copy,
    ],
)
def test_a_broken_directory_is_skipped_with_one_line(
    make_config: MakeConfig,
    make_run: MakeRun,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[RunDirectory], None],
) -> None:
    make_run(make_config("hc"))
    run = make_run(make_config("mhc"))
    damage(run)
    with caplog.at_level(logging.WARNING):
        found = [run.connection for run in read_runs(tmp_path / "results")]
    assert found == (["hc", "mhc"] if damage is copy else ["hc"])
    assert len(caplog.messages) == 1
    assert run.run_id in caplog.messages[0]
    assert "\n" not in caplog.messages[0]


def test_other_folders_are_not_runs(
    make_config: MakeConfig, make_run: MakeRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_run(make_config())
    for name in ("tables/a.md", "figures/a.svg", "local/quick/mhc-s0-00000000/status.json"):
        (tmp_path / "results" / name).parent.mkdir(parents=True)
        (tmp_path / "results" / name).write_text("")
    assert len(read_runs(tmp_path / "results")) == 1
    assert caplog.messages == []


def test_read_run_says_where_a_renamed_run_belongs(make_config: MakeConfig, make_run: MakeRun) -> None:
    run = make_run(make_config())
    renamed = run.path.rename(run.path.with_name("mhc-s9-12345678"))
    with pytest.raises(UserError, match=run.run_id):
        read_run(renamed)
