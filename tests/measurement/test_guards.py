"""Each verdict on a run that deserves it, made by training it; silence on the arms as they are published."""

import pandas as pd
import pytest
import torch

from mhc_repro.config import Config, GuardsConfig
from mhc_repro.connections import nature
from mhc_repro.evidence.verdicts import REASONS, judge
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.training.trainer import Trainer
from yaml_files import CONF

STEPS = 20


@pytest.fixture
def tables(config):
    def train(arm: str, lr: float = 1e-2, **changes) -> tuple[pd.DataFrame, pd.DataFrame, Config]:
        """Train 20 steps in float32, as real runs do; return the gains and metrics tables and the config."""
        made = config(arm, steps=STEPS, train={"precision": "float32"}, probe={"every": 5}, **changes)
        made.optim.lr = lr
        trainer = Trainer(made, torch.device("cpu"))
        metrics, gains = [], []
        for step in range(STEPS + 1):
            row = trainer.step() if step else {"step": 0}
            measured, rows, _, _ = trainer.measure()
            metrics.append(row | measured)
            gains += rows
        return pd.DataFrame(gains), pd.DataFrame(metrics), made

    return train


def verdict(tables, arm: str, n: int = 4, **settings):
    gains, metrics, config = tables(arm, n=n, **settings)
    constrained = config.connection.mixing.get("kind") == "sinkhorn"
    found = judge(gains, metrics, config, doubly_stochastic=constrained)
    assert set(found.degenerate) | set(found.control) <= set(REASONS)
    return found


def test_the_published_arms_are_sound(tables, arm):
    found = verdict(tables, arm)
    assert found.degenerate == []
    assert found.control == (["h_res_identity"] if arm == "identity" else [])


def test_they_are_sound_at_small_rates(tables, streams_arm):
    assert verdict(tables, streams_arm, lr=1e-3).degenerate == []


@pytest.mark.parametrize("n", [1, 2, 8])
def test_so_are_they_with_other_numbers_of_streams(tables, streams_arm, n):
    assert verdict(tables, streams_arm, n=n).degenerate == []


# Nothing tells the streams apart. At 1e-2 Adam would soon turn the rounding of zero gradients into steps that do.
ALIKE = {"read_start": [0, 0], "write_start": [0, 0], "lr": 1e-3}
EVEN_READ = {"read_start": [0.25, 0.25], "lr": 1e-4}  # as the enwik8 reproduction starts HC
CORNER = {"mixing": {"kind": "sinkhorn", "start": [-1000, 1000]}}  # I, with a gradient that underflows
UNIFORM = {"mixing": {"kind": "sinkhorn", "start": [0, 0]}}
SATURATED = {"read_start": [-1000, 1000], "write_start": [-1000, 1000]}  # gates without a gradient


@pytest.mark.parametrize(
    ("arm_name", "settings", "expected"),
    [
        ("mhc", CORNER, {"h_res_identity"}),
        ("mhc", ALIKE, {"streams_never_separated", "h_res_frozen"}),
        ("hc", EVEN_READ, {"streams_never_separated"}),
        ("mhc", ALIKE | UNIFORM, {"streams_never_separated", "h_res_uniform"}),
        ("mhc", ALIKE | CORNER, {"streams_never_separated", "h_res_identity"}),
        ("mhc", SATURATED | CORNER, {"h_res_identity", "gates_saturated", "connection_gradients_dead"}),
        (
            "identity",
            SATURATED | {"expects": []},
            {"h_res_identity", "gates_saturated", "connection_gradients_dead"},
        ),
        ("mhc", {"lr": 1e-8}, {"streams_never_separated", "h_res_frozen"}),
    ],
)
def test_every_reason_is_found_where_it_holds(tables, arm_name, settings, expected):
    found = verdict(tables, arm_name, **settings)
    assert set(found.degenerate) == expected
    assert found.control == []


def test_a_spread_that_is_rounding_is_no_separation(tables):
    """At 1e-2 Adam makes full steps of rounding: the streams of a symmetric start drift visibly apart."""
    gains, metrics, config = tables("hc", read_start=[0.25, 0.25], lr=1e-2)
    assert gains["spread"].max() > config.guards.spread
    assert judge(gains, metrics, config, exchangeable=True).degenerate == ["streams_never_separated"]
    assert judge(gains, metrics, config).degenerate == []


def test_what_an_arm_declares_is_a_control_and_the_rest_a_fault(tables):
    found = verdict(tables, "identity", **ALIKE)
    assert (found.degenerate, found.control) == (["streams_never_separated"], ["h_res_identity"])
    found = verdict(
        tables, "mhc", **ALIKE, expects=["streams_never_separated", "h_res_frozen", "h_res_uniform"]
    )
    assert found.degenerate == []
    assert set(found.control) == {"streams_never_separated", "h_res_frozen"}


@pytest.mark.parametrize(
    ("reason", "settings", "column"),
    [
        ("streams_never_separated", ALIKE, "spread"),
        ("h_res_identity", CORNER, "distance_identity"),
        ("h_res_uniform", ALIKE | UNIFORM, "distance_uniform"),
        ("h_res_frozen", ALIKE, "h_single"),
    ],
)
def test_one_sub_layer_at_one_probe_is_enough_to_acquit(tables, reason, settings, column):
    """H_res of sub-layer 1 never learns in mHC, for one: that alone is no fault."""
    gains, metrics, config = tables("mhc", **settings)
    assert reason in judge(gains, metrics, config).degenerate
    values = gains[column].tolist()
    last = gains.index[-1]
    values[last] = [value + 1e-3 for value in values[last]] if column == "h_single" else 1e-3
    assert reason not in judge(gains.assign(**{column: values}), metrics, config).degenerate


def test_gradients_that_live_for_one_step_are_not_dead(tables):
    gains, metrics, config = tables("mhc", **SATURATED, **CORNER)
    assert "connection_gradients_dead" in judge(gains, metrics, config).degenerate
    alive = metrics["grad/norm_connection"].where(metrics["step"] != 3, 1e-3)
    assert (
        "connection_gradients_dead"
        not in judge(gains, metrics.assign(**{"grad/norm_connection": alive}), config).degenerate
    )


def test_nothing_is_judged_before_a_twentieth_of_the_steps(tables):
    gains, metrics, config = tables("mhc", **ALIKE)
    early = gains[gains["step"] <= 5]
    config.train.steps = 101
    assert judge(early, metrics, config) == ([], [])
    config.train.steps = 100
    assert judge(early, metrics, config).degenerate == ["streams_never_separated", "h_res_frozen"]


def test_a_run_without_a_probe_is_not_judged_for_what_was_not_seen(tables):
    _, metrics, config = tables("mhc")
    assert judge(pd.DataFrame({"step": []}), metrics, config) == ([], [])


FAULTS = {
    "published_hc": {"streams_never_separated"},
    "published_mhc": {"streams_never_separated", "h_res_uniform", "connection_gradients_dead"},
    "mhc_uniform": {"streams_never_separated", "h_res_uniform"},
    "mhc_tokenbender": {"h_res_identity"},
    "identity_mix_tokenbender": {"h_res_identity"},
    # Started so far out that twenty small steps do not show; a real run's do.
    **{name: {"h_res_frozen"} for name in ("history", "history_detached", "kromhc_paper")},
}
CONTROLS = {"identity": {"h_res_identity"}, "uniform": {"h_res_uniform"}, "random_mixing": {"h_res_frozen"}}


@pytest.mark.parametrize("arm_name", sorted(path.stem for path in CONF.glob("connection/*.yaml")))
def test_faults_are_named_in_the_arms_that_have_them_and_in_no_other(tables, arm_name):
    gains, metrics, config = tables(arm_name, lr=1e-3)
    constrained = nature(config.connection).doubly_stochastic
    found = judge(gains, metrics, config, doubly_stochastic=constrained)
    assert set(found.degenerate) == FAULTS.get(arm_name, set())
    assert set(found.control) == CONTROLS.get(arm_name, set())


def test_a_permutation_other_than_i_is_saturated(tables):
    gains, metrics, config = tables("mhc")
    swapped = [float(i == j) for j in (1, 0, 2, 3) for i in range(4)]
    found = judge(gains.assign(h_single=[swapped] * len(gains), distance_identity=2.0), metrics, config)
    assert found.degenerate == ["h_res_saturated"]


def test_sums_that_are_off_miss_the_constraint_where_there_is_one(tables):
    gains, metrics, config = tables("mhc")
    for column in ("row_error", "column_error"):
        off = gains.assign(**{column: gains[column].where(gains["layer"] > 1, 0.5)})
        assert judge(off, metrics, config, doubly_stochastic=True).degenerate == ["constraint_missed"]
        assert judge(off, metrics, config).degenerate == []
        once = gains.assign(**{column: off[column].where(gains["step"] == STEPS, gains[column])})
        assert judge(once, metrics, config, doubly_stochastic=True).degenerate == []


def test_what_tokens_miss_in_opposite_ways_is_missed_all_the_same():
    """Two tokens whose sums are 1.5 and 0.5: their mean matrix is I."""
    h = torch.eye(2, dtype=torch.float64) * torch.tensor([1.5, 0.5], dtype=torch.float64)[:, None, None]
    (row,) = gain_rows(h[None])
    assert (row["distance_identity"], row["row_error"], row["column_error"]) == (0.0, 0.5, 0.5)


def test_limits_are_those_of_the_config(tables):
    gains, metrics, config = tables("mhc")
    for limits, reason in (
        (GuardsConfig(spread=10.0), "streams_never_separated"),
        (GuardsConfig(distance=10.0), "h_res_identity"),
        (GuardsConfig(moved=10.0), "h_res_frozen"),
        (GuardsConfig(vertex=10.0), "h_res_saturated"),
        (GuardsConfig(slope=10.0), "gates_saturated"),
        (GuardsConfig(residual=0.0), "constraint_missed"),
        (GuardsConfig(gradient=10.0), "connection_gradients_dead"),
    ):
        config.guards = limits
        assert reason in judge(gains, metrics, config, doubly_stochastic=True).degenerate
    config.guards = GuardsConfig(judged_after=1.0, spread=10.0)
    assert judge(gains, metrics, config).degenerate


def test_a_try_of_a_few_steps_is_not_blamed_for_what_has_not_moved_yet(tables):
    gains, metrics, config = tables("mhc", lr=1e-8)
    assert judge(gains, metrics, config).degenerate == ["streams_never_separated", "h_res_frozen"]
    config.train.steps = 19
    assert judge(gains, metrics, config).degenerate == []
    assert judge(gains, metrics, config, exchangeable=True).degenerate == ["streams_never_separated"]
