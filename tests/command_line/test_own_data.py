"""One's own tokens and texts, from the command that is typed to the run that is left."""

import numpy as np
import pytest

from made_shards import write_shard, write_shards
from mhc_repro.command_line import cli
from mhc_repro.command_line.compose import compose_jobs
from mhc_repro.runs import read_runs
from mhc_repro.runs.identity import run_id
from tiny_runs import TINY, assert_no_litter

# nanoGPT in miniature: its vocabulary, norm and schedule, in numbers of parameters that take seconds
NANO = [*TINY[1:], "protocol=fineweb_small", "data.batch=4", "runtime.accumulate=2", "train.val_every=2"]


def test_a_nanogpt_in_miniature_trains_on_shards(main, elsewhere, tmp_path, capsys):
    folder = write_shards(tmp_path / "shards")
    argv = ["connection=mhc", f"data.path={folder}", "model.position=rope", *NANO]
    argv += ["train.steps=8", "optim.lr=1e-2", "optim.warmup=0", f"runtime.results={tmp_path / 'results'}"]
    assert main(*argv, "runtime.track=tensorboard") == 0
    (run,) = read_runs(tmp_path / "results")
    assert run.state == "finished"
    assert (run.config["data"]["vocab"], run.config["model"]["norm_eps"]) == (50304, 1e-5)
    assert str(tmp_path) not in (run.path / "config.yaml").read_text()
    held_out = run.metrics["loss/val"].dropna()
    assert 10.7 < held_out.iloc[0] < 10.9  # ln 50,304
    assert held_out.iloc[-1] < held_out.iloc[0] - 0.1
    (bits,) = run.metrics["bpb/test"].dropna()
    assert bits == pytest.approx(run.metrics["bpb/val"].iloc[-1], rel=0.5)
    assert (run.gains["composite_forward"] > 0).all()
    assert list((run.path / "tensorboard").glob("events.*"))
    assert_no_litter(elsewhere)
    capsys.readouterr()
    assert main(*argv) == 0  # another time it is found
    assert "already finished" in capsys.readouterr().err
    assert cli.main(["ls", "--root", str(tmp_path / "results")]) == 0
    assert f" {bits:.3f} " in capsys.readouterr().out


def test_without_known_bytes_losses_are_in_nats_a_token(main, tmp_path, capsys):
    folder = write_shards(tmp_path / "shards")
    argv = ["data=tokens", "data.tokeniser=none", f"data.path={folder}", *TINY[1:]]
    assert main(*argv, f"runtime.results={tmp_path / 'results'}") == 0
    assert "nats a token" in capsys.readouterr().err
    (run,) = read_runs(tmp_path / "results")
    assert not [name for name in run.metrics if name.startswith("bp")]
    cli.main(["ls", "--root", str(tmp_path / "results")])
    assert f"{run.metrics['loss/test'].iloc[-1]:.3f} nats (test)" in capsys.readouterr().out


@pytest.mark.parametrize("is_folder", [False, True])
def test_any_text_is_trained_on_byte_by_byte(main, tmp_path, is_folder):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("Grüße aus der Ferne. " * 100)
    path = tmp_path / "texts" / ("" if is_folder else "one.txt")
    assert main("data=text", f"data.path={path}", *TINY[1:], f"runtime.results={tmp_path / 'results'}") == 0
    (run,) = read_runs(tmp_path / "results")
    assert run.metrics["bpc/test"].dropna().size == 1
    assert run.config["data"]["name"] == "text"


def test_a_path_may_be_said_of_a_recorded_study(tmp_path):
    (tmp_path / "conf" / "study").mkdir(parents=True)
    folder = write_shards(tmp_path / "shards", val=200)
    (tmp_path / "conf" / "study" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /data: tokens}]\nstudy: mine\nruntime: {results: results}\n"
        "data: {sequence: 16}\ntrain: {val_windows: 2, test_windows: 2}\nprobe: {windows: 4}\n"
    )
    line = ["--config-dir", str(tmp_path / "conf"), "study=mine", f"data.path={folder}"]
    (job,) = compose_jobs(line)
    assert run_id(job) == run_id(compose_jobs([*line, "runtime.results=results/local"])[0])


def test_data_fineweb_says_what_to_fetch(capsys):
    assert cli.main(["data", "fineweb"]) == 0
    said = capsys.readouterr().out
    for words in ("kjj0/fineweb10B-gpt2", "hf download", "--repo-type dataset", "protocol=fineweb_small"):
        assert words in said
    for line in said.splitlines():
        if line.startswith("  python experiments/train.py"):
            assert {"protocol=fineweb_small", "data.path=fineweb10B", "connection=mhc"} <= set(line.split())


def headed(folder):
    write_shards(folder)
    (folder / "fineweb_val_000000.bin").write_bytes(b"no shard")


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: folder.mkdir(), headed])
def test_data_fineweb_speaks_of_what_was_typed(tmp_path, capsys, make):
    make(tmp_path / "shards")
    assert cli.main(["data", "fineweb", "--from", str(tmp_path / "shards")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "shards") in said
    assert "data.path" not in said


def test_data_fineweb_verifies_a_folder(tmp_path, capsys):
    folder = write_shards(tmp_path / "shards")
    assert cli.main(["data", "fineweb", "--from", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "5,001 train tokens in 2, 4,000 val tokens in 1 files  sha256 " in said
    write_shard(folder / "fineweb_val_000000.bin", np.zeros(3), promised=4)
    assert cli.main(["data", "fineweb", "--from", str(folder)]) == 2
    assert "3 tokens instead of the 4" in capsys.readouterr().err
