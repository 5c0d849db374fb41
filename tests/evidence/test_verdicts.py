"""Each verdict on a run that deserves it, made by training it; silence on the arms as they are published."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import KINDS
from mhc_repro.evidence.verdicts import LIMITS, Limits, Verdict, judge, verdict
from mhc_repro.reasons import OFF, REASONS, TOLD
from mhc_repro.runs import Run, read_run, read_runs
from mhc_repro.runs.identity import resolved, run_id
from mhc_repro.training.trainer import Trainer
from yaml_files import CONF

STEPS, EVERY = 20, 5


@pytest.fixture(scope="module")
def trained() -> dict[str, tuple[pd.DataFrame, pd.DataFrame, dict]]:
    return {}


@pytest.fixture
def tables(config, trained):
    def tables(arm: str, lr: float = 1e-2, **changes) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
        """Train 20 steps in float32, as real runs do; return gains, metrics and the resolved config."""
        made = config(arm, steps=STEPS, train={"precision": "float32"}, probe={"every": EVERY}, **changes)
        made.optim.lr = lr
        if (name := run_id(made)) not in trained:
            trained[name] = train(made)
        return copy.deepcopy(trained[name])

    def train(made):
        trainer = Trainer(made, torch.device("cpu"))
        metrics, gains = [], []
        for step in range(STEPS + 1):
            row = trainer.step() if step else {"step": 0}
            if step % EVERY == 0:
                measured, rows, _, _ = trainer.measure()
                row |= measured
                gains += rows
            metrics.append(row)
        return pd.DataFrame(gains), pd.DataFrame(metrics), resolved(made)

    return tables


CONTROLS = {
    "identity": ("h_res_identity",),
    "gated_residual": ("h_res_identity",),
    "uniform": ("h_res_uniform",),
    "random_mixing": ("h_res_frozen",),
}
FREE = {"doubly_stochastic": False, "exchangeable": False}  # what a manifest says of HC
STOCHASTIC = FREE | {"doubly_stochastic": True}
ALIKE_FOR_EVER = FREE | {"exchangeable": True}


def judged(tables, arm: str, n: int = 4, **settings):
    gains, metrics, config = tables(arm, n=n, **settings)
    constrained = config["connection"]["mixing"].get("kind") == "sinkhorn"
    found = judge(gains, metrics, config, STOCHASTIC if constrained else FREE)
    assert set().union(*found) <= set(REASONS)
    assert found.not_judged == ()
    return found


@pytest.fixture(scope="module")
def recorded() -> list[Run]:
    """Every arm, and runs that miss the constraint; of each other the verdict is in results/index.csv."""
    results = CONF.parent / "results"
    runs = [run for study in ("arms", "depth", "stress") for run in read_runs(results, study)]
    return [*runs, read_run(results / "maps" / "mhc-s0-17a67aa7")]


def test_the_published_arms_are_sound(tables, arm):
    found = judged(tables, arm)
    assert found.dead == found.off_the_constraint == ()
    assert found.control == CONTROLS.get(arm, ())


@pytest.mark.parametrize("n", [2, 8])
def test_so_are_they_with_other_numbers_of_streams(tables, streams_arm, n):
    assert judged(tables, streams_arm, n=n) == Verdict(control=CONTROLS.get(streams_arm, ()))


# Nothing tells the streams apart. At 1e-2 Adam would soon turn the rounding of zero gradients into steps that do.
ALIKE = {"read_start": [0, 0], "write_start": [0, 0], "lr": 1e-3}
EVEN_READ = {"read_start": [0.25, 0.25], "lr": 1e-4}  # as the enwik8 reproduction starts HC
CORNER = {"mixing": {"kind": "sinkhorn", "start": [-1000, 1000]}}  # I, with a gradient that underflows
UNIFORM = {"mixing": {"kind": "sinkhorn", "start": [0, 0]}}
SATURATED = {"read_start": [-1000, 1000], "write_start": [-1000, 1000]}  # gates without a gradient
STILL = {"h_res_identity", "gates_saturated", "connection_gradients_dead"}


@pytest.mark.parametrize(
    ("arm_name", "settings", "expected"),
    [
        ("mhc", CORNER, {"h_res_identity"}),
        ("mhc", ALIKE, {"streams_never_separated", "h_res_frozen"}),
        ("hc", EVEN_READ, {"streams_never_separated"}),
        ("mhc", ALIKE | UNIFORM, {"streams_never_separated", "h_res_uniform"}),
        ("mhc", ALIKE | CORNER, {"streams_never_separated", "h_res_identity"}),
        ("mhc", SATURATED | CORNER, STILL),
        ("identity", SATURATED | {"expects": []}, STILL),
        ("mhc", {"lr": 1e-8}, {"streams_never_separated", "h_res_frozen"}),
    ],
)
def test_every_reason_is_found_where_it_holds(tables, arm_name, settings, expected):
    found = judged(tables, arm_name, **settings)
    assert (set(found.dead), found.off_the_constraint, found.control) == (expected, (), ())


def test_a_spread_that_is_rounding_is_no_separation(tables):
    """At 1e-2 Adam makes full steps of rounding: the streams of a symmetric start drift visibly apart."""
    gains, metrics, config = tables("hc", read_start=[0.25, 0.25], lr=1e-2)
    assert gains["spread"].max() > LIMITS.spread
    assert judge(gains, metrics, config, ALIKE_FOR_EVER).dead == ("streams_never_separated",)
    assert judge(gains, metrics, config, FREE).dead == ()


def test_what_an_arm_declares_is_a_control_and_the_rest_a_fault(tables):
    found = judged(tables, "identity", **ALIKE)
    assert (found.dead, found.control) == (("streams_never_separated",), ("h_res_identity",))
    expects = ["streams_never_separated", "h_res_frozen", "h_res_uniform"]
    found = judged(tables, "mhc", **ALIKE, expects=expects)
    assert found.dead == ()
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
    assert reason in judge(gains, metrics, config, FREE).dead
    values = gains[column].tolist()
    last = gains.index[-1]
    values[last] = [value + 1e-3 for value in values[last]] if column == "h_single" else 1e-3
    assert reason not in judge(gains.assign(**{column: values}), metrics, config, FREE).dead


def test_one_stream_has_nothing_to_judge(tables):
    gains, metrics, config = tables("mhc", **ALIKE | UNIFORM)
    config["connection"]["n"] = 1
    assert judge(gains, metrics, config, STOCHASTIC) == Verdict()


def test_gradients_that_live_for_one_step_are_not_dead(tables):
    gains, metrics, config = tables("mhc", **SATURATED, **CORNER)
    assert "connection_gradients_dead" in judge(gains, metrics, config, FREE).dead
    key = "grad/norm_connection"
    metrics[key] = metrics[key].where(metrics["step"] != 3, 1e-3)
    assert "connection_gradients_dead" not in judge(gains, metrics, config, FREE).dead


def test_nothing_is_judged_before_a_twentieth_of_the_steps(tables):
    gains, metrics, config = tables("mhc", **ALIKE)
    early = gains[gains["step"] <= 5]
    config["train"]["steps"] = 101
    assert judge(early, metrics, config, FREE) == Verdict(not_judged=tuple(REASONS))
    config["train"]["steps"] = 100
    assert judge(early, metrics, config, FREE).dead == ("streams_never_separated", "h_res_frozen")


def test_a_run_without_a_probe_is_not_judged_for_what_was_not_seen(tables):
    _, metrics, config = tables("mhc")
    found = judge(pd.DataFrame({"step": []}), metrics, config, FREE)
    assert found == Verdict(not_judged=tuple(REASONS))
    assert found.words() == ["not judged"]


TOO_SHORT = ("history", "history_detached", "kromhc_paper")
FAULTS = {
    "published_hc": {"streams_never_separated"},
    "published_mhc": {"streams_never_separated", "h_res_uniform", "connection_gradients_dead"},
    "mhc_uniform": {"streams_never_separated", "h_res_uniform"},
    "mhc_tokenbender": {"h_res_identity"},
    "identity_mix_tokenbender": {"h_res_identity"},
    # Started so far out that twenty small steps do not show; a real run's do.
    **{name: {"h_res_frozen"} for name in TOO_SHORT},
}


# Of the arms without a fault, those that differ most in how they make states and H_res.
SOUND = ("gated_residual", "uniform", "random_mixing", "history_simplex", "hc_original", "mhc_lite", "kromhc")
SOUND += ("tbp", "orthostochastic", "xhc_clamp", "single_pass", "mhc_exponent", "deepseek_v4", "ohc")


@pytest.mark.parametrize("arm_name", [*FAULTS, *SOUND])
def test_faults_are_named_in_the_arms_that_have_them_and_in_none_that_is_sound(tables, arm_name):
    gains, metrics, config = tables(arm_name, lr=1e-3)
    arm_config = ConnectionConfig(**config["connection"])
    constrained = KINDS[arm_config.kind].nature(arm_config).doubly_stochastic
    found = judge(gains, metrics, config, FREE | {"doubly_stochastic": constrained})
    assert set(found.dead + found.off_the_constraint) == FAULTS.get(arm_name, set())
    assert found.control == CONTROLS.get(arm_name, ())
    assert found.not_judged == ()


def test_a_permutation_other_than_i_is_saturated(tables):
    gains, metrics, config = tables("mhc")
    swapped = [float(i == j) for j in (1, 0, 2, 3) for i in range(4)]
    found = judge(gains.assign(h_single=[swapped] * len(gains), distance_identity=2.0), metrics, config, FREE)
    assert found.dead == ("h_res_saturated",)


def test_sums_that_are_off_miss_the_constraint_where_there_is_one(tables):
    gains, metrics, config = tables("mhc")
    for column in ("row_error", "column_error"):
        off = gains.assign(**{column: gains[column].where(gains["layer"] > 1, 0.5)})
        assert judge(off, metrics, config, STOCHASTIC) == Verdict(off_the_constraint=(OFF,))
        assert judge(off, metrics, config, FREE) == Verdict()
        once = gains.assign(**{column: 100 * off[column].where(gains["step"] == STEPS, 0)})
        assert judge(once, metrics, config, STOCHASTIC) == Verdict()


def test_what_was_not_recorded_is_not_judged_rather_than_passed(tables):
    gains, metrics, config = tables("mhc")
    older = gains.drop(columns=["row_error", "column_error", "gate_slope"])
    assert judge(older, metrics, config, STOCHASTIC).not_judged == ("gates_saturated", OFF)
    assert judge(older, metrics, config, FREE).not_judged == ("gates_saturated",)
    assert judge(gains, metrics, config, {}) == Verdict(not_judged=("streams_never_separated", OFF))


def test_what_is_no_number_passes_no_limit(tables):
    gains, metrics, config = tables("mhc")
    no_number = gains.assign(h_single=[np.full(16, np.nan)] * len(gains))
    columns = ["spread", "gate_slope", "distance_identity", "distance_uniform", "row_error", "column_error"]
    no_number[columns] = np.nan
    found = judge(no_number, metrics.assign(**{"grad/norm_connection": np.nan}), config, STOCHASTIC)
    assert found == Verdict(not_judged=tuple(code for code in REASONS if code not in TOLD))
    last = gains["step"] == gains["step"].max()
    at_the_end = gains.assign(**{name: gains[name].where(~last) for name in columns})
    assert (
        judge(at_the_end, metrics, config, STOCHASTIC)
        == judge(gains, metrics, config, STOCHASTIC)
        == Verdict()
    )


def test_a_mean_matrix_whose_sums_are_off_convicts_where_those_of_tokens_were_not_recorded(tables):
    """The sums of the token mean are off by no more than the tokens' are, so they cannot acquit."""
    gains, metrics, config = tables("mhc")
    older = gains.drop(columns=["row_error", "column_error"])
    for way in (0, 1):  # shifted from one row to another, or from one column: of the others all sums are 1
        shift = 0.3 * np.kron(*[np.array([1, -1, 0, 0]), np.full(4, 0.25)][:: 1 - 2 * way])
        off = [
            np.asarray(h) + shift * (layer == 2)
            for h, layer in zip(older["h_single"], older["layer"], strict=True)
        ]
        assert judge(older.assign(h_single=off), metrics, config, STOCHASTIC).off_the_constraint == (OFF,)
    assert judge(older, metrics, config, STOCHASTIC) == Verdict(not_judged=(OFF,))


def test_every_limit_is_one(tables):
    gains, metrics, config = tables("mhc")
    for limits, reason in (
        (Limits(spread=10.0), "streams_never_separated"),
        (Limits(distance=10.0), "h_res_identity"),
        (Limits(moved=10.0), "h_res_frozen"),
        (Limits(vertex=10.0), "h_res_saturated"),
        (Limits(slope=10.0), "gates_saturated"),
        (Limits(gradient=10.0), "connection_gradients_dead"),
        (Limits(residual=-1.0), OFF),
        (Limits(judged_after=1.0, spread=10.0), "streams_never_separated"),
    ):
        found = judge(gains, metrics, config, STOCHASTIC, limits)
        assert reason in found.dead + found.off_the_constraint + found.applied_otherwise


def test_recorded_runs_have_the_nature_of_their_arms(recorded):
    """Manifests from before the nature was written have been given it once; nothing else may have moved."""
    for run in recorded:
        arm = ConnectionConfig(**run.config["connection"])
        assert run.manifest["nature"] == KINDS[arm.kind].nature(arm)._asdict()


def test_recorded_runs_are_judged_by_todays_guard(recorded):
    found = {(run.study, run.run_id): verdict(run) for run in recorded}
    dead = {name for name, each in found.items() if each.dead}
    assert {name.rpartition("-s0")[0] for _, name in dead} == {*FAULTS} - {*TOO_SHORT}
    off = {name for name, each in found.items() if each.off_the_constraint}
    assert off >= {("depth", "mhc-s0-7d2e9d7b"), ("stress", "mhc-s1-b3fecffe"), ("maps", "mhc-s0-17a67aa7")}
    assert {name.rpartition("-s")[0] for _, name in off} == {"mhc"}  # no arm that is exact by construction


def test_a_try_of_a_few_steps_is_not_blamed_for_what_has_not_moved_yet(tables):
    gains, metrics, config = tables("mhc", lr=1e-8)
    assert judge(gains, metrics, config, FREE).dead == ("streams_never_separated", "h_res_frozen")
    config["train"]["steps"] = 19
    found = judge(gains, metrics, config, FREE)
    assert found == Verdict(not_judged=("streams_never_separated", "h_res_frozen"))
    assert judge(gains, metrics, config, ALIKE_FOR_EVER).dead == ("streams_never_separated",)
