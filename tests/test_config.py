"""Every file in conf/ composes to what the design says, and every field knows its limits."""

import copy
import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from omegaconf import OmegaConf

from made_shards import write_shard
from mhc_repro.command_line.compose import CONF, compose_jobs
from mhc_repro.config import Config, ConnectionConfig, DataConfig, RuntimeConfig, dotted
from mhc_repro.errors import UserError
from mhc_repro.runs.identity import run_id
from mhc_repro.texts import TEXTS
from mhc_repro.validation import RULES, validate

FILES = sorted(CONF.glob("*/*.yaml"))
STUDIES = sorted(CONF.glob("study/*.yaml"))
THREE = ("baseline", "hc", "mhc")
RECORDED = sorted((CONF.parent / "results").glob("*/*/config.yaml"))
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

# blocks, dim, heads, batch, steps, steps of warm-up
FINEWEB = {"fineweb_small": (6, 288, 6, 128, 5000, 200), "fineweb_medium": (12, 768, 12, 128, 10000, 200)}


@functools.cache  # Hydra takes a tenth of a second for a job
def jobs_of(*overrides: str) -> list[Config]:
    return compose_jobs(overrides)


def compose_one(*overrides: str) -> Config:
    (config,) = jobs_of(*overrides)
    return copy.deepcopy(config)


def files(paths: list[Path]) -> list:
    return [pytest.param(path, id=f"{path.parent.name}={path.stem}") for path in paths]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough tokens for every window of the protocols that read them; all are 0, which takes no room on a disk."""
    folder = tmp_path_factory.mktemp("shards")
    for split in ("train", "val"):
        path = write_shard(folder / f"{split}.bin", np.zeros(0), promised=7_000_000)
        os.truncate(path, 1024 + 2 * 7_000_000)
    return folder


def own(path: Path, shards: Path) -> list[str]:
    """What a file of conf/ that reads what a person has must be told."""
    return (
        [f"data.path={shards}"] if path.stem in ("text", "tokens", "fineweb_small", "fineweb_medium") else []
    )


def sweeps(study: str) -> dict[str, str]:
    """What a study sweeps: settings, and the values of each as they are typed."""
    text = (CONF / "study" / f"{study}.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^      ([\w.]+): ([^#\n]*[^#\s])", text, re.MULTILINE))


@pytest.mark.parametrize("path", files([path for path in FILES if path not in STUDIES]))
def test_every_file_composes(path: Path, shards: Path) -> None:
    assert len(jobs_of(f"{path.parent.name}={path.stem}", *own(path, shards))) == 1


@pytest.mark.parametrize("path", files([CONF / "config.yaml", *FILES]))
def test_no_file_asks_hydra_to_build_anything(path: Path) -> None:
    assert "_target_" not in path.read_text(encoding="utf-8")


def test_a_run_is_the_schemas_default_unless_something_says_otherwise() -> None:
    composed = compose_one()
    assert composed.data.sha256
    composed.data.sha256 = Config().data.sha256
    assert composed == Config()


@pytest.mark.parametrize("path", files(sorted(CONF.glob("protocol/*.yaml"))))
def test_a_protocol_says_what_differs_and_nothing_else(path: Path, shards: Path) -> None:
    said = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    parent = next((each for each in said.pop("defaults", []) if isinstance(each, str)), "reference")
    own_config = compose_one(f"protocol={path.stem}", *own(path, shards))
    inherited = compose_one(f"protocol={parent}")
    for key, value in dotted(said).items():
        assert attrgetter(key)(own_config) == value != attrgetter(key)(inherited), key


@pytest.mark.parametrize("name", FINEWEB)
def test_protocol_has_the_numbers_of_others(name: str, shards: Path) -> None:
    job = compose_one(f"protocol={name}", f"data.path={shards}", "connection=mhc")
    model, data, optim, steps = job.model, job.data, job.optim, job.train.steps
    assert (model.blocks, model.dim, model.heads, data.batch, steps, round(optim.warmup * steps)) == FINEWEB[
        name
    ]
    assert data.batch * data.sequence == 131_072  # tokens an update
    assert (data.name, data.tokeniser, data.vocab, data.sequence) == ("tokens", "gpt2", 50304, 1024)
    assert (model.dropout, model.norm_eps, model.mlp_ratio, model.position) == (0.0, 1e-5, 4, "learned")
    assert (job.train.precision, job.train.streams) == ("bfloat16", "wide")
    assert (optim.lr, optim.lr * optim.final_lr, optim.clip) == (6e-4, pytest.approx(6e-5), 1.0)
    assert (optim.betas, optim.weight_decay, optim.decay_all) == ([0.9, 0.95], 0.1, False)
    turned = compose_one(f"protocol={name}", f"data.path={shards}", "connection=mhc", "model.position=rope")
    assert run_id(turned) != run_id(job)


def test_parts_are_no_part_of_the_id(shards: Path) -> None:
    jobs = [
        jobs_of("protocol=fineweb_small", f"data.path={shards}", f"runtime.accumulate={n}") for n in (1, 32)
    ]
    assert len({run_id(job) for (job,) in jobs}) == 1


@pytest.mark.parametrize("study", sorted({path.parents[1].name for path in RECORDED}))
def test_a_recorded_study_composes_to_the_runs_it_recorded(study: str) -> None:
    """Composed is a job for each choice of files; whatever else is swept Hydra sets behind all files."""
    recorded = {path.parent.name for path in RECORDED if path.parents[1].name == study}
    swept = {key: typed for key, typed in sweeps(study).items() if "." in key}
    jobs = jobs_of(
        f"study={study}", "seed=0", *(f"{key}={typed.split(',')[0]}" for key, typed in swept.items())
    )
    swept["seed"] = ",".join({name.rpartition("-s")[2].partition("-")[0] for name in recorded})
    composed = set()
    for job in map(copy.deepcopy, jobs):
        for values in itertools.product(*(OmegaConf.create(f"[{typed}]") for typed in swept.values())):
            for key, value in zip(swept, values, strict=True):
                group, _, name = key.rpartition(".")
                part = attrgetter(group)(job) if group else job
                setattr(part, name, type(getattr(part, name))(value))
            composed.add(run_id(job))
    assert recorded <= composed


def test_later_wins(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /protocol: quick}]\nstudy: mine\ntrain: {steps: 7}\n"
    )
    study = ["--config-dir", str(tmp_path), "study=mine"]
    mine = compose_one(*study)
    assert (mine.study, mine.train.steps, mine.optim.lr) == (
        "mine",
        7,
        3e-3,
    )  # study over protocol over group
    assert compose_one(*study, "train.steps=9").train.steps == 9
    assert compose_one(*study, "protocol=reference").optim.lr == 3e-4


@pytest.mark.parametrize("path", files(STUDIES))
def test_study_names_its_question_and_its_folder(path: Path) -> None:
    """Composed are the runs with the first and with the last value of all it sweeps: all would take minutes."""
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comments[1].endswith("?")
    jobs = []
    for end in (0, -1):
        typed = {key: "hc" if "glob" in values else values for key, values in sweeps(path.stem).items()}
        line = [f"{key}={values.split(',')[end]}" for key, values in typed.items()]
        jobs += jobs_of(f"study={path.stem}", *line)
    assert len(jobs) == 2
    assert {job.study for job in jobs} == {path.stem}
    # Try-outs go where git does not look; all else is a record.
    assert {job.runtime.results for job in jobs} == {"results/local" if path.stem == "quick" else "results"}


@pytest.mark.parametrize(
    ("study", "swept", "values", "arms", "seeds"),
    [
        (
            "edge",
            "lr",
            [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1],
            {*THREE, "identity", "mhc_unconstrained"},
            3,
        ),
        (
            "maps",
            "connection_lr",
            [1, 3, 10, 30, 100],
            {"identity", "hc", "mhc", "mhc_lite", "mhc_unconstrained", "mhc_spectral", "mhc_signed_rows"},
            6,
        ),
    ],
)
def test_a_grid_is_whole(study: str, swept: str, values: list[float], arms: set[str], seeds: int) -> None:
    """Along each of its axes; that a sweep is all combinations is Hydra's."""
    assert set(sweeps(study)) == {"connection", f"optim.{swept}", "seed"}
    axis = f"optim.{swept}={sweeps(study)[f'optim.{swept}'].split(',')[0]}"
    of_arms = jobs_of(f"study={study}", "seed=0", axis)
    of_values = jobs_of(f"study={study}", "seed=0", "connection=hc")
    of_seeds = jobs_of(f"study={study}", "connection=hc", axis)
    assert sorted(job.connection.name for job in of_arms) == sorted(arms)
    assert sorted(getattr(job.optim, swept) for job in of_values) == values
    assert [job.seed for job in of_seeds] == list(range(seeds))


def test_study_is_a_multirun_without_the_flag() -> None:
    assert jobs_of("study=quick") == jobs_of("-m", "study=quick")
    assert [job.seed for job in jobs_of("study=quick", "seed=3", "connection=hc")] == [3]


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
        ("model.qk_norm=true model.heads=256", ["a head of one feature", "model.heads=128"]),
        ("connection=history model.norm=post", ["older states", "model.norm=pre"]),
        ("optim.connection_lr=0 connection=mhc", ["more than 0 and finite", "optim.connection_lr=1.0"]),
        ("optim.connection_lr=10", ["connection.kind=residual", "another id", "optim.connection_lr=1.0"]),
        ("optim.clip_apart=true", ["connection.kind=residual", "optim.clip_apart=false"]),
        ("connection=mhc optim.clip_apart=true optim.clip=0", ["optim.clip=0", "optim.clip_apart=false"]),
        ("optim.schedule=constant optim.final_lr=0", ["optim.schedule=constant", "optim.final_lr=0.1"]),
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
        ("connection=mhc connection.mixing.kind=[a]", ["connection.mixing.kind=['a']", "sinkhorn"]),
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
def test_number_of_streams_is_free(
    streams_arm: str, n: int, connection: Callable[..., ConnectionConfig]
) -> None:
    validate(Config(connection=connection(streams_arm, n=n), data=ENWIK8))


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a b", "tables", "local", "bench", "x" * 65]
)
def test_study_must_be_a_folder_name(name: str) -> None:
    with pytest.raises(UserError, match="study="):
        validate(Config(study=name, data=ENWIK8))


@pytest.mark.parametrize(
    "results", ["results", "./results/", "results/new", "results/local/../x", str(CONF.parent / "results")]
)
def test_synthetic_data_never_enters_the_record(results: str) -> None:
    runtime = RuntimeConfig(results=results)
    with pytest.raises(UserError, match="recorded results are made from enwik8"):
        validate(Config(study="quick", data=compose_one("data=synthetic").data, runtime=runtime))
    validate(Config(study="quick", data=ENWIK8, runtime=runtime))


@pytest.mark.parametrize("results", ["results/local", "results/local/tries", "/somewhere/else"])
def test_synthetic_data_may_go_elsewhere(results: str) -> None:
    assert compose_one("data=synthetic", f"runtime.results={results}").runtime.results == results
