"""Every field knows its limits, and what is outside them is told what is inside."""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest

from mhc_repro.command_line.compose import CONF, compose_jobs
from mhc_repro.config import Config, DataConfig, RuntimeConfig, dotted
from mhc_repro.corpora.texts import TEXTS
from mhc_repro.errors import UserError
from mhc_repro.validation import RULES, validate

ENWIK8 = DataConfig(sha256=TEXTS["enwik8"].sha256)


# What no range can check: a switch, and what another module judges.
WITHOUT_RULE = {
    "connection.mixing.kind",
    "connection.exponent",
    "connection.share_alpha",
    "connection.single_pass",
    "data.sha256",
    "model.qk_norm",
    "optim.clip_apart",
    "optim.decay_all",
    "probe.enabled",
    "probe.true_gain",
}


def test_every_field_has_a_rule_that_its_default_meets() -> None:
    assert set(dotted(dataclasses.asdict(Config()))) - set(RULES) == WITHOUT_RULE
    for key, rule in RULES.items():
        assert rule.holds(attrgetter(key)(Config())), key


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("train.steps=0", ["must be from 1 to 1000000000", "train.steps=2000"]),
        ("seed=-1", ["from 0 to", "seed=0"]),
        ("optim.lr=nan", ["more than 0 and finite", "optim.lr=0.0003"]),
        ("optim.lr=inf", ["more than 0 and finite"]),
        ("optim.betas=[0.9,1.0]", ["less than 1", "optim.betas=[0.9,0.95]"]),
        ("optim.betas=[0.9]", ["two numbers"]),
        ("model.dim=130", ["multiple of model.heads=8", "model.dim=128"]),
        ("model.dim=2", ["multiple of model.heads=8", "model.dim=8"]),
        ("model.heads=3", ["multiple of model.heads=3", "model.dim=255, or model.heads=2"]),
        ("model.dropout=1", ["less than 1"]),
        ("model.norm=none", ["pre, post"]),
        ("probe.true_gain=true train.streams=float16", ["lost in train.streams=float16", "true_gain=false"]),
        ("model.qk_norm=true model.heads=256", ["a head of one feature", "model.heads=128"]),
        ("connection=history model.norm=post", ["older states", "model.norm=pre"]),
        (
            "connection=mhc_exponent model.norm=post",
            ["itself, which is all that connection.exponent=true is for; for example model.norm=pre"],
        ),
        ("optim.connection_lr=0 connection=mhc", ["more than 0 and finite", "optim.connection_lr=1.0"]),
        ("optim.connection_lr=10", ["connection.kind=residual", "another id", "optim.connection_lr=1.0"]),
        ("optim.clip_apart=true", ["connection.kind=residual", "optim.clip_apart=false"]),
        ("connection=mhc optim.clip_apart=true optim.clip=0", ["optim.clip=0", "optim.clip_apart=false"]),
        ("optim.schedule=constant optim.final_lr=0", ["optim.schedule=constant", "optim.final_lr=0.1"]),
        ("optim.weight_decay=0 optim.decay_all=true", ["optim.weight_decay=0", "optim.decay_all=false"]),
        ("optim.warmup=1 optim.schedule=constant", ["optim.warmup=1", "optim.schedule=cosine"]),
        ("optim.warmup=1 optim.final_lr=0.5", ["optim.warmup=1", "optim.final_lr=0.1"]),
        ("probe.enabled=false probe.true_gain=true", ["probe.enabled=false", "probe.true_gain=false"]),
        ("probe.enabled=false probe.activation=batch", ["probe.enabled=false", "probe.activation=probe"]),
        ("optim.schedule=linear", ["cosine, constant"]),
        ("train.precision=half", ["float64, float32, bfloat16, float16", "train.precision=float32"]),
        ("train.streams=float32", ["wide, bfloat16, float16"]),
        ("data.sequence=0", ["from 1 to 1048576", "data.sequence=128"]),
        (f"data.path={CONF}", ["data=enwik8 is not read from there", "data.path=null"]),
        ("data.tokeniser=gpt2", ["data=enwik8 is not made of tokens", "data.tokeniser=none"]),
        ("runtime.accumulate=12", ["must divide data.batch=32", "runtime.accumulate=8"]),
        ("runtime.accumulate=2 model.dropout=0.1", ["masks", "runtime.accumulate=1"]),
        ("model.position=rope model.dim=24", ["has 3", "model.dim=32"]),
        ("runtime.track=mlflow", ["tensorboard, wandb"]),
        ("data.sequence=5000", ["train.test_windows=2048", "5,000,000", "train.test_windows=999"]),
        ("data=synthetic data.sequence=400000", ["less than 300,000"]),
        ("probe.token_maps=2000", ["1024 tokens"]),
        ("runtime.device=gpu", ["cuda", "runtime.device=auto"]),
        ("runtime.compile=true", ["auto, on, off"]),
        ("runtime.threads=0", ["null, or from 1 to 1024"]),
        ("runtime.enwik8=/no/such/file", ["a file that exists", "runtime.enwik8=null"]),
        ("connection.name=../up", ["plain name"]),
        ("connection.n=0", ["from 1 to 1048576"]),
        ("connection.n=2", ["one stream"]),
        ("connection=mhc_static connection.alpha=0.1", ["coefficients=static", "connection.alpha=0.01"]),
        ("connection=hc_original connection.coefficients=static", ["connection.share_alpha=false"]),
        ("connection=uniform connection.share_alpha=true", ["kind=uniform", "connection.share_alpha=false"]),
        ("data.name=synthetic", ["data.sha256=2b49", "choose data=synthetic"]),
        ("data=enwik8_characters data.vocab=256", ["has 6,064 symbols", "data.vocab=6064"]),
        ("connection=mhc connection.mixing.kind=[a]", ["connection.mixing.kind=[a]", "sinkhorn"]),
        ("connection=mhc connection.freeze=[[read]]", ["a list of some of read, write, mix"]),
        ("connection=mhc connection.read_start=[[0],1]", ["two numbers"]),
        ("train.precision=float64 runtime.device=mps", ["runtime.device=mps", "train.precision=float32"]),
    ],
)
def test_range_is_taught(wrong: str, said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        compose_jobs(wrong.split())
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, ["nothing to read in it (text)"]),
        (2_000, ["must be less than 100; for example data.sequence=99"]),
        (100_000, ["the split has 5,000", "for example train.val_windows=38 train.test_windows=38"]),
    ],
)
def test_a_short_text_is_told_all_that_must_be_less(tmp_path: Path, size: int, said: list[str]) -> None:
    (tmp_path / "text").write_bytes(b"x" * size)
    line = ["data=text", f"data.path={tmp_path}"]
    with pytest.raises(UserError) as caught:
        compose_jobs(line)
    for words in said:
        assert words in str(caught.value)
    if size == 100_000:
        assert compose_jobs([*line, *str(caught.value).partition("for example ")[2].split()])


def test_a_head_has_a_gate_although_static_maps_have_none() -> None:
    (config,) = compose_jobs(["connection=mhc_static", "connection.reduce=head", "connection.alpha=0.1"])
    assert config.connection.alpha == 0.1


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_number_of_streams_is_free(streams_arm: str, n: int, connection: Callable) -> None:
    validate(Config(connection=connection(streams_arm, n=n), data=ENWIK8))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a b", "local", "bench", "x" * 65])
def test_study_must_be_a_folder_name(name: str) -> None:
    with pytest.raises(UserError, match="study="):
        validate(Config(study=name, data=ENWIK8))


@pytest.mark.parametrize(
    "results", ["results", "./results/", "results/new", "results/local/../x", str(CONF.parent / "results")]
)
def test_synthetic_data_never_enters_the_record(results: str) -> None:
    runtime = RuntimeConfig(results=results)
    (synthetic,) = compose_jobs(["data=synthetic"])
    with pytest.raises(UserError, match="recorded results are made from enwik8"):
        validate(Config(study="quick", data=synthetic.data, runtime=runtime))
    validate(Config(study="quick", data=ENWIK8, runtime=runtime))


@pytest.mark.parametrize("results", ["results/local", "results/local/tries", "/somewhere/else"])
def test_synthetic_data_may_go_elsewhere(results: str) -> None:
    (config,) = compose_jobs(["data=synthetic", f"runtime.results={results}"])
    assert config.runtime.results == results
