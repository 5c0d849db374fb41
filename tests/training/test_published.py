"""The enwik8 reproduction: its mHC arm is the baseline with branches times 1/n; its ratio is measured its way."""

import numpy as np
import pytest
import torch

from mhc_repro.command_line.compose import compose_jobs
from mhc_repro.corpora import data
from mhc_repro.corpora.characters import PIECE, to_symbols
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs.identity import run_id
from mhc_repro.runs.reader import read_run
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer


def trainer(start, arm: str, precision: str, dropout: float = 0.0, **probe) -> Trainer:
    model = {"norm_eps": 1e-5, "dropout": dropout, "init_std": 0.02}
    optim, train = {"lr": 3e-3, "decay_all": True}, {"precision": precision}
    return start(arm, steps=20, model=model, optim=optim, train=train, probe=probe, reduce="mean")


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_its_mhc_is_the_baseline_with_branches_times_a_quarter(start, precision):
    """Every map is symmetric under permutations of the streams, so no gradient can tell the streams apart."""
    losses = {}
    for arm in ("published_mhc", "baseline_quarter", "baseline"):
        made = trainer(start, arm, precision)
        losses[arm] = [made.step()["loss/train"] for _ in range(20)]
    assert losses["published_mhc"] == pytest.approx(losses["baseline_quarter"], abs=1e-5)
    assert losses["published_mhc"] != pytest.approx(losses["baseline"], abs=1e-3)
    assert losses["published_mhc"][-1] < losses["published_mhc"][0] - 0.1


def test_the_activation_gain_is_that_of_the_last_batch_in_train_mode(start):
    made = trainer(start, "published_hc", "float64", dropout=0.3, activation="batch", every=5)
    gains = {}
    for step in range(1, 13):
        made.step()
        row = made.measure().metrics
        if "gain/activation" in row:
            gains[step] = row["gain/activation"]
            assert gains[step] == made.activation_gain()  # the masks are the step's own
    assert list(gains) == [1, 6, 11]

    inputs, _ = data.batch(made.corpus.train, 0, 12, 2, 6)
    amax = []
    with torch.no_grad():
        made.model.eval()(inputs, lambda _, streams, *__: amax.append(streams.abs().amax().item()))
        made.model.train()
    assert made.activation_gain() != pytest.approx(amax[-1] / amax[0])  # dropout is on


def test_without_dropout_it_is_what_one_sees_of_the_streams_on_that_batch(start):
    made, amax = trainer(start, "hc", "float64", activation="batch"), []
    for _ in range(2):
        made.step()
    inputs, _ = data.batch(made.corpus.train, 0, 2, 2, 6)
    with torch.no_grad():
        made.model(inputs, lambda _, streams, *__: amax.append(streams.abs().amax().item()))
    assert made.activation_gain() == pytest.approx(amax[-1] / amax[0])


def test_it_is_that_of_the_state_and_not_of_what_an_exponent_leaves_of_it(start):
    gains = []
    for arm in ("mhc_unconstrained", "mhc_exponent"):
        made = trainer(start, arm, "float64", activation="batch")
        for connection in made.model.connections:
            connection.mix.bias.data += 3 * torch.eye(4).view_as(connection.mix.bias)
        made.step()
        gains.append(made.activation_gain())
    assert gains[1] == pytest.approx(gains[0], rel=1e-9)


def test_measuring_it_changes_no_loss(start):
    losses = []
    for activation in ("batch", "probe"):
        made = trainer(start, "published_mhc", "float32", dropout=0.3, activation=activation, every=2)
        losses.append([made.step()["loss/train"] for _ in range(6) if made.measure()])
    assert losses[0] == losses[1]


def test_characters_are_numbered_by_code_point_and_broken_bytes_are_dropped():
    text = "bä∂𝄞a\n" * 3
    raw = np.frombuffer(text.encode()[:-1] + b"\xff\xe2\x88", dtype=np.uint8)
    symbols, count = to_symbols(raw)
    kept = raw.tobytes().decode(errors="ignore")
    order = sorted(set(kept))
    assert count == len(order) == 6
    assert symbols.tolist() == [order.index(character) for character in kept]


def test_a_character_is_never_cut_in_two():
    raw = np.frombuffer(("x" + "∂" * (PIECE // 3 + 9)).encode(), dtype=np.uint8)
    symbols, count = to_symbols(raw)
    assert (len(symbols), count) == (PIECE // 3 + 10, 2)


def test_the_study_runs_and_names_its_dead_arms(config, tmp_path):
    """A short version of study=published, from the command line to the status; `config` makes the text cheap."""
    small = "data=synthetic model.blocks=2 model.dim=16 model.heads=2 data.batch=4 data.sequence=16"
    briefly = "train.steps=40 probe.token_maps=3 runtime.compile=off runtime.threads=1 runtime.device=cpu"
    where = [f"runtime.results={tmp_path}", f"runtime.cache={tmp_path}", "runtime.progress=lines"]
    found = {}
    for job in compose_jobs(["study=published", *small.split(), *briefly.split(), *where]):
        assert train(job) == "finished"
        run = read_run(tmp_path / "published" / run_id(job))
        assert run.metrics["gain/activation"].dropna().index.tolist() == [1, 21]
        found[run.connection] = verdict(run).dead
    assert list(found) == ["baseline", "published_hc", "published_mhc", "baseline_quarter"]
    assert found["baseline"] == found["baseline_quarter"] == ()
    assert found["published_hc"] == ("streams_never_separated",)
    assert set(found["published_mhc"]) >= {"streams_never_separated", "h_res_uniform"}
