"""The plan counts what is to do and takes its time from what was measured."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from mhc_repro import places
from mhc_repro.config import Config, ModelConfig, ProbeConfig, TrainConfig
from mhc_repro.runs import RunDirectory, plan
from mhc_repro.runs.manifest import cpu_model

MakeConfig = Callable[..., Config]


@pytest.fixture(autouse=True)
def no_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "DEFAULT_ROOTS", ())


@pytest.fixture
def make_config(make_config: MakeConfig) -> MakeConfig:
    """Configs of four steps and two more's time: six batches forward, each a third of a step; without a probe."""

    def make(*args: Any, steps: int = 4, probed: bool = False, **fields: Any) -> Config:
        train = TrainConfig(steps=steps, val_every=steps, val_windows=3 * 32, test_windows=3 * 32)
        return make_config(*args, train=train, probe=ProbeConfig(enabled=probed), **fields)

    return make


def seconds(config: Config) -> float | None:
    return plan.plan([config])[0].seconds_left


def test_nothing_known(make_config):
    [one] = plan.plan([make_config(seed=3)])
    assert dataclasses.asdict(one)["study"] == "scratch"  # plain data
    assert (one.run_id[:7], one.state, one.step, one.steps) == ("mhc-s3-", "missing", 0, 4)
    assert one.seconds_left is None
    assert plan.summary([one]) == "1 run: 1 to do, time not known yet"


def test_states_and_last_line(make_config, make_run):
    configs = [make_config(seed=seed, steps=100, probed=True) for seed in range(4)]
    make_run(configs[0], seconds=30.0)
    make_run(configs[1], "diverged", seconds=30.0)
    planned = plan.plan([*configs, configs[0]])
    assert [one.state for one in planned] == ["finished", "diverged", "missing", "missing"]
    # 102 steps of 30 s and 5 probes of 1 s, twice
    assert [one.seconds_left for one in planned] == [0.0, 0.0, 3065.0, 3065.0]
    *listed, last = plan.table(planned).splitlines()
    assert last == "4 runs: 1 finished, 1 diverged, 2 to do, about 1 h 42 min, one after another"
    assert all(one.run_id in "".join(listed) for one in planned)


def test_a_run_in_another_process_is_not_to_do(make_config):
    config = make_config()
    run = RunDirectory.of(config)
    with run.locked():
        run.write_status(status="running", step=1, steps=4)
        assert plan.summary(plan.plan([config])) == "1 run: 1 running"
    assert plan.summary(plan.plan([config])) == "1 run: 1 to do, time not known yet"


def test_an_interrupted_run_has_only_the_rest_to_do(make_config, make_run):
    config = make_config()
    make_run(config).write_status(status="interrupted", step=1)
    assert seconds(config) == pytest.approx((3 + (3 / 4 + 1)) * 0.5)  # and one validation of a whole training


def test_the_same_shapes_come_before_other_arms(make_config, make_run):
    make_run(make_config("baseline"), seconds=1.0)
    make_run(make_config("hc"), seconds=3.0)
    assert seconds(make_config("hc", 1)) == 6 * 3.0
    assert seconds(make_config("baseline", 1)) == 6 * 1.0
    assert seconds(make_config("mhc", 1)) == 6 * 2.0  # the median of both, of the same work


def test_other_shapes_are_scaled_by_parameters_and_tokens(make_config, make_run):
    make_run(make_config("baseline"), seconds=9.0)
    make_run(make_config("hc"), seconds=1.0)
    larger = make_config("hc", model=ModelConfig(dim=512))
    larger.data.batch *= 2
    width, context = 8 * 12, 256 + 128  # 12 dim^2 in each of 8 blocks; vocabulary and positions
    ratio = (width * 512**2 + context * 512) / (width * 256**2 + context * 256)
    assert seconds(larger) == pytest.approx((4 + 1) * 1.0 * 2 * ratio)


def test_another_arm_of_the_same_size_tells_more_than_the_same_arm_of_another(make_config, make_run):
    make_run(make_config("hc", model=ModelConfig(dim=16)), seconds=1.0)
    make_run(make_config("mhc"), seconds=2.0)
    assert seconds(make_config("hc")) == 6 * 2.0


def test_another_arm_counts_as_a_quarter_more_or_less_work(make_config, make_run):
    make_run(make_config("mhc"), seconds=2.0)
    make_run(make_config("hc", model=ModelConfig(blocks=12)), seconds=1.0)  # half as much again
    assert seconds(make_config("hc")) == 6 * 2.0
    make_run(make_config("hc", model=ModelConfig(blocks=9)), seconds=1.0)  # an eighth more
    assert seconds(make_config("hc")) == pytest.approx(6 * 1.0 * 8 / 9, rel=0.02)


def test_where_no_probe_was_timed_none_is_counted(make_config, make_run):
    run = make_run(make_config(seed=1), status="interrupted", seconds=2.0)
    rows = [{"step": 0}, *({"step": step, "loss/train": 1.0, "time/step": 2.0} for step in range(1, 5))]
    run.table("metrics").jsonl.unlink()
    run.table("metrics").append(*rows)
    assert seconds(make_config()) == 6 * 2.0
    assert seconds(make_config(probed=True)) == 6 * 2.0


def test_this_machines_runs_count_before_others(make_config, make_run):
    make_run(make_config(seed=1), seconds=9.0, cpu="another processor")
    assert seconds(make_config()) == 6 * 9.0
    make_run(make_config(seed=2), seconds=2.0, cpu=cpu_model())
    assert seconds(make_config()) == 6 * 2.0


def test_runs_on_a_gpu_and_on_a_cpu_say_nothing_of_each_other(make_config, make_run):
    def expected(device: str) -> float | None:
        config = make_config()
        config.runtime.device = device
        return seconds(config)

    make_run(make_config(seed=1), seconds=8.0, cpu=cpu_model())
    assert (expected("cpu"), expected("cuda:1"), expected("auto")) == (48.0, None, 48.0)
    run = make_run(make_config(seed=2), seconds=0.25, cpu=cpu_model())
    made = run.read_manifest() or {}
    with run.locked():
        run.write_manifest(made | {"fingerprint": made["fingerprint"] | {"device": "Maker A1"}})
    assert (expected("cpu"), expected("cuda:1"), expected("auto")) == (48.0, 1.5, 1.5)
    assert expected("mps") is None


def test_the_run_of_a_model_of_ones_own_tells_nothing(make_config, make_run):
    make_run(make_config(seed=1, model=ModelConfig(own="mine.Net", layers=4)))
    assert seconds(make_config()) is None


def test_a_broken_run_does_not_stop_a_plan(make_config, make_run):
    (make_run(make_config(seed=1)).path / "metrics.parquet").write_bytes(b"")
    assert seconds(make_config()) is None


def test_all_done(make_config, make_run):
    configs = [make_config(seed=seed, study="quick") for seed in range(2)]
    for config in configs:
        make_run(config)
    assert plan.summary(plan.plan(configs)) == "2 runs: 2 finished"
    assert plan.summary([]) == "0 runs: nothing to do"
    run = f"quick/{RunDirectory.of(configs[0]).run_id}"
    said = plan.again(plan.plan(configs), "results")
    assert said.endswith(f"then mhc-repro compare results/{run} results/local/{run}")
    assert plan.again(plan.plan([*configs, make_config(seed=2)]), "results") == ""
    make_run(make_config())  # study scratch is no file that could be made again
    assert "delete its folder in results/scratch" in plan.again(plan.plan([make_config()]), "results")


def test_a_run_of_several_processes_says_nothing_of_one(make_config, make_run):
    run = make_run(make_config(seed=1))
    assert seconds(make_config()) is not None
    made = run.read_manifest()
    run.write_manifest(made | {"fingerprint": made["fingerprint"] | {"world_size": 2}})
    assert seconds(make_config()) is None
