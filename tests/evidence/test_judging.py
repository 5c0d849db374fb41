"""What a verdict asks of the tables: every limit, at each probe that is judged, and only of what is there."""

import numpy as np
import pandas as pd
import pytest

from judged_tables import ALIKE, ALIKE_FOR_EVER, CORNER, FREE, SATURATED, STEPS, STOCHASTIC, UNIFORM
from mhc_repro.evidence.verdicts import LIMITS, Limits, Verdict, judge
from mhc_repro.reasons import OFF, REASONS, TOLD


def test_a_spread_that_is_rounding_is_no_separation(tables):
    """At 1e-2 Adam makes full steps of rounding: the streams of a symmetric start drift visibly apart."""
    gains, metrics, config = tables("hc", read_start=[0.25, 0.25], lr=1e-2)
    assert gains["spread"].max() > LIMITS.spread
    assert judge(gains, metrics, config, ALIKE_FOR_EVER).dead == ("streams_never_separated",)
    assert judge(gains, metrics, config, FREE).dead == ()


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


def test_a_permutation_other_than_i_is_saturated(tables):
    gains, metrics, config = tables("mhc")
    swapped = [float(i == j) for j in (1, 0, 2, 3) for i in range(4)]
    found = judge(gains.assign(h_single=[swapped] * len(gains), distance_identity=2.0), metrics, config, FREE)
    assert found.dead == ("h_res_saturated",)


def test_entries_below_zero_are_no_corner(tables):
    """An H_res of either sign may have its diagonal at 1 and all else negative."""
    gains, metrics, config = tables("mhc")
    signed = [1.0 if i == j else -0.5 for i in range(4) for j in range(4)]
    off = gains.assign(h_single=[signed] * len(gains), distance_identity=2.0)
    off.loc[off["step"] == 0, "h_single"] = off.loc[off["step"] == 0, "h_single"].map(lambda h: [0.25] * 16)
    assert judge(off, metrics, config, FREE) == Verdict()


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


def test_a_try_of_a_few_steps_is_not_blamed_for_what_has_not_moved_yet(tables):
    gains, metrics, config = tables("mhc", lr=1e-8)
    assert judge(gains, metrics, config, FREE).dead == ("streams_never_separated", "h_res_frozen")
    config["train"]["steps"] = 19
    found = judge(gains, metrics, config, FREE)
    assert found == Verdict(not_judged=("streams_never_separated", "h_res_frozen"))
    assert judge(gains, metrics, config, ALIKE_FOR_EVER).dead == ("streams_never_separated",)
