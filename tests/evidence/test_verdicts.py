"""Each verdict on a run that deserves it, made by training it; silence on the arms as they are published."""

import pytest

from judged_tables import ALIKE, CORNER, EVEN_READ, FREE, SATURATED, STOCHASTIC, UNIFORM
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import KINDS
from mhc_repro.evidence.verdicts import Verdict, judge, verdict
from mhc_repro.reasons import REASONS
from mhc_repro.runs import Run, read_run, read_runs
from yaml_files import CONF

CONTROLS = {
    "identity": ("h_res_identity",),
    "gated_residual": ("h_res_identity",),
    "uniform": ("h_res_uniform",),
    "random_mixing": ("h_res_frozen",),
}


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


def test_what_an_arm_declares_is_a_control_and_the_rest_a_fault(tables):
    found = judged(tables, "identity", **ALIKE)
    assert (found.dead, found.control) == (("streams_never_separated",), ("h_res_identity",))
    expects = ["streams_never_separated", "h_res_frozen", "h_res_uniform"]
    found = judged(tables, "mhc", **ALIKE, expects=expects)
    assert found.dead == ()
    assert set(found.control) == {"streams_never_separated", "h_res_frozen"}


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
