"""What is on disk is what is listed: in one order, broken folders named and left out."""

import logging
import shutil

import pytest

from mhc_repro.errors import UserError
from mhc_repro.runs import read_run, read_runs

ARMS = ["kromhc", "mhc", "hc", "cayley", "identity", "baseline"]


def test_a_run_reads_back(make_config, make_run):
    run = read_run(str(make_run(make_config("hc", 5, study="stability")).path))
    assert (run.study, run.connection, run.seed, run.state) == ("stability", "hc", 5, "finished")
    assert run.config["train"]["steps"] == 4
    assert run.manifest["commit"] == "c0ffee"
    assert run.metrics["step"].tolist() == [0, 1, 2, 3, 4]
    assert run.metrics is run.metrics
    assert run.gains["layer"].tolist() == run.tokens["layer"].tolist() == [1]


def test_runs_come_by_study_arm_and_seed(make_config, make_run, tmp_path):
    for study in ("b", "a"):
        for arm in ARMS:
            for seed in (10, 2):
                make_run(make_config(arm, seed, study=study))
    found = [(run.study, run.connection, run.seed) for run in read_runs(tmp_path / "results")]
    assert found == [(study, arm, seed) for study in "ab" for arm in sorted(ARMS) for seed in (2, 10)]
    assert {run.study for run in read_runs(tmp_path / "results", "b")} == {"b"}
    assert read_runs(tmp_path / "nowhere") == []


# Of a run's folder: a file, and its new content, or what replaces a part of it; None: the file goes.
DAMAGES = [
    ("config.yaml", ("\nprobe:", "\nmodel: null  # the second of two counts\nprobe:")),
    ("status.json", '{"status": "fin'),
    ("gains.parquet", None),
]


@pytest.mark.parametrize(("name", "content"), DAMAGES)
def test_a_broken_directory_is_skipped_with_one_line(make_config, make_run, tmp_path, caplog, name, content):
    make_run(make_config("hc"))
    run = make_run(make_config("mhc"))
    path = run.path / name
    if content is None:
        path.unlink()
    elif isinstance(content, tuple):
        assert content[0] in path.read_text()
        path.write_text(path.read_text().replace(*content))
    else:
        path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert [run.connection for run in read_runs(tmp_path / "results")] == ["hc"]
    (message,) = caplog.messages
    assert run.run_id in message
    assert "\n" not in message


def test_a_copy_of_a_run_is_left_out_with_one_line(make_config, make_run, tmp_path, caplog):
    run = make_run(make_config())
    shutil.copytree(run.path, run.path.with_name(run.run_id + "-old"))
    with caplog.at_level(logging.WARNING):
        assert len(read_runs(tmp_path / "results")) == 1
    (message,) = caplog.messages
    assert run.run_id in message
    assert "\n" not in message


def test_other_folders_are_not_runs(make_config, make_run, tmp_path, caplog):
    make_run(make_config())
    for name in ("tables/a.md", "figures/a.svg", "local/quick/mhc-s0-00000000/status.json"):
        (tmp_path / "results" / name).parent.mkdir(parents=True)
        (tmp_path / "results" / name).write_text("")
    assert len(read_runs(tmp_path / "results")) == 1
    assert caplog.messages == []


def test_read_run_says_where_a_renamed_run_belongs(make_config, make_run):
    run = make_run(make_config())
    renamed = run.path.rename(run.path.with_name("mhc-s9-12345678"))
    with pytest.raises(UserError, match=run.run_id):
        read_run(renamed)
