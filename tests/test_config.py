"""Every file in conf/ composes to what the design says, and every field knows its limits."""

import copy
import functools
import itertools
import os
import re
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from omegaconf import OmegaConf

from made_shards import write_shard
from mhc_repro import connection_config
from mhc_repro.command_line.compose import CONF, compose_jobs
from mhc_repro.config import Config, dotted
from mhc_repro.runs.identity import run_id

FILES = sorted(CONF.glob("*/*.yaml"))
STUDIES = sorted(CONF.glob("study/*.yaml"))
ARMS = sorted(CONF.glob("connection/*.yaml"))
RECORDED = sorted((CONF.parent / "results").glob("*/*/config.yaml"))

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
    return [f"data.path={shards}"] if path.stem in ("text", "tokens", *FINEWEB) else []


def sweeps(study: str) -> dict[str, str]:
    """What a study sweeps: settings, and the values of each as they are typed."""
    text = (CONF / "study" / f"{study}.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^      ([\w.]+): ([^#\n]*[^#\s])", text, re.MULTILINE))


@pytest.mark.parametrize("path", files([path for path in FILES if path not in (*STUDIES, *ARMS)]))
def test_every_file_composes(path: Path, shards: Path) -> None:
    assert len(jobs_of(f"{path.parent.name}={path.stem}", *own(path, shards))) == 1


def test_an_arm_is_trained_with_the_settings_that_tests_and_the_library_take_from_its_file() -> None:
    found = {job.connection.name: job.connection for job in jobs_of("study=arms", "seed=0")}
    assert sorted(found) == [path.stem for path in ARMS]
    for name, connection in found.items():
        assert connection == connection_config(name)


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
    sizes = (model.blocks, model.dim, model.heads, data.batch, steps, round(optim.warmup * steps))
    assert sizes == FINEWEB[name]
    assert data.batch * data.sequence == 131_072  # tokens an update
    assert (data.name, data.tokeniser, data.vocab, data.sequence) == ("tokens", "gpt2", 50304, 1024)
    assert (model.dropout, model.norm_eps, model.mlp_ratio, model.position) == (0.0, 1e-5, 4, "learned")
    assert (job.train.precision, job.train.streams) == ("bfloat16", "wide")
    assert (optim.lr, optim.lr * optim.final_lr, optim.clip) == (6e-4, pytest.approx(6e-5), 1.0)
    assert (optim.betas, optim.weight_decay, optim.decay_all) == ([0.9, 0.95], 0.1, False)
    turned = compose_one(f"protocol={name}", f"data.path={shards}", "connection=mhc", "model.position=rope")
    assert run_id(turned) != run_id(job)


def test_parts_are_no_part_of_the_id(shards: Path) -> None:
    whole, parts = (
        compose_one("protocol=fineweb_small", f"data.path={shards}", f"runtime.accumulate={n}")
        for n in (1, 32)
    )
    assert run_id(whole) == run_id(parts)


@pytest.mark.parametrize("study", sorted({path.parents[1].name for path in RECORDED}))
def test_a_recorded_study_composes_to_the_runs_it_recorded(study: str) -> None:
    """No value of a sweep is gone. Composed is a job for each choice of files; Hydra sets the rest behind."""
    recorded = {path.parent.name for path in RECORDED if path.parents[1].name == study}
    swept = {key: typed for key, typed in sweeps(study).items() if "." in key or key == "seed"}
    firsts = [f"{key}={typed.split(',')[0]}" for key, typed in swept.items()]
    jobs = jobs_of(f"study={study}", *firsts)
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
    # study over protocol over group
    assert (mine.study, mine.train.steps, mine.optim.lr) == ("mine", 7, 3e-3)
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


def test_study_is_a_multirun_without_the_flag() -> None:
    assert jobs_of("study=quick") == jobs_of("-m", "study=quick")
    assert [job.seed for job in jobs_of("study=quick", "seed=3", "connection=hc")] == [3]
