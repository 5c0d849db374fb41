"""Each quantity by hand, from rows in which every other column has another value."""

from dataclasses import replace
from itertools import combinations
from math import inf, isnan, nan, sqrt
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from mhc_repro.config import Config
from mhc_repro.evidence.comparison import KEPT, settings
from mhc_repro.evidence.ledger import DEEP, LEDGER, values
from mhc_repro.evidence.readings import largest
from mhc_repro.evidence.spikes import WINDOW
from mhc_repro.places import checkout
from mhc_repro.runs import Run, read_runs
from mhc_repro.runs.identity import resolved

STEPS = 160
SAYS = {  # of a column, its values at two steps, and at the last of them
    "gain/activation": (3.0, 2.0),
    "gain/composite_forward": (5.0, 4.0),
    "gain/composite_backward": (7.0, 6.5),
    "kernel/late_share": (0.1, 0.2),
    "kernel/early_share": (0.3, 0.15),
    "kernel/cancellation": (11.0, 12.0),
    "kernel/effective": (13.0, 14.0),
    "attention/logit": (16.0, 15.0),
    "bpc/val": (4.0, 3.5),
    "loss/val": (1.3, 1.25),
}
ONCE = {
    "bpc/test": 3.25,
    "ablation/last_quarter": 1.5,
    "ablation/last_half": 1.75,
    "jacobian/random": 0.5,
    "jacobian/worst": 2.5,
}
EXPECTED = {
    "bpc": 3.25,
    "bpc_test": 3.25,
    "bpc_val": 3.5,
    "loss_last": 2.0 - 0.001 * 160,
    "loss_final": 2.0 - 0.001 * 141,
    "loss_min": 2.0 - 0.001 * 141,
    "grad_mean": 2.0,
    "grad_max": 2.0,
    "activation_mean": 2.5,
    "activation_max": 3.0,
    "grad_median": 1.0,
    "grad_body_median": 0.5,
    "grad_body_max": 9.0,
    "clipped": 100 * 8 / 160,
    "clip_by_maps": 25.0,  # of a norm of 2, 1 is the maps': a quarter of the square
    "composite_forward": 5.0,
    "composite_backward": 7.0,
    "composite": 7.0,
    "composite_end": 6.5,
    "late_share": 0.2,
    "early_share": 0.15,
    "cancellation": 12.0,
    "effective": 14.0,
    "logit_max": 16.0,
    "lost_last_quarter": 0.25,
    "lost_last_half": 0.5,
    "jacobian_random": 0.5,
    "jacobian_worst": 2.5,
    "from_identity_start": 0.2,
    "from_identity_end": 0.4,
    "loss_spikes": 0.0,
    "grad_spikes": 1.0,
    "step_seconds": 0.1,
}


def made(state: str = "finished", n: int = 4, drop: tuple[str, ...] = ()) -> Run:
    """A run whose printed steps (1, 21, ...) have gradients of 2, of which the clip leaves 1, and all others 1."""
    rows = [{"step": 0, "bpc/val": 8.0}]
    for step in range(1, STEPS + 1):
        printed = (step - 1) % 20 == 0
        body = 9.0 if step == 150 else 0.5 + 0.001 * (step % 2)
        norms = {"grad/norm": 2.0, "grad/norm_connection": 1.0}
        norms = norms if printed else {"grad/norm": 1.0, "grad/norm_connection": 0.9}
        rest = {"grad/norm_body": body, "grad/clipped": 1.0, "time/step": 0.1 if step % 10 == 0 else 0.3}
        rows.append({"step": step, "loss/train": 2.0 - 0.001 * step, **norms, **rest})
    for key, (earlier, last) in SAYS.items():
        rows[60][key], rows[-1][key] = earlier, last
    rows[-1] |= ONCE
    config = Config()
    config.connection.n, config.train.steps = n, STEPS
    run = Run(Path("study/arm-s0-0"), resolved(config), {}, {"status": state, "step": STEPS}, state)
    vars(run)["metrics"] = pd.DataFrame(rows).drop(columns=list(drop))
    gains = [(0, 0.1), (0, 0.2), (0, 0.9), (STEPS, 0.4), (STEPS, 0.4), (STEPS, 1.0)]
    vars(run)["gains"] = pd.DataFrame(gains, columns=["step", "distance_identity"])
    return run


def test_every_quantity_by_hand():
    assert set(EXPECTED) == set(LEDGER)
    found = values(made())
    assert found == pytest.approx(EXPECTED | {"grad_body_median": found["grad_body_median"]})
    assert 0.5 <= found["grad_body_median"] <= 0.501
    assert STEPS > WINDOW


def test_a_run_that_diverged_has_lost_everything_and_keeps_what_it_measured():
    found = values(made("diverged", drop=("bpc/test",)))
    assert found["bpc"] == inf
    assert isnan(found["bpc_test"])
    assert isnan(found["loss_last"])
    assert (found["bpc_val"], found["composite"]) == (3.5, 7.0)


def test_what_was_not_recorded_is_no_number():
    """Old runs have no kernel, a baseline has no H_res to move, and a run under way has nothing yet."""
    old = values(made(n=1, drop=("kernel/late_share", "kernel/cancellation", "grad/clipped")))
    missing = {"late_share", "cancellation", "clipped", "clip_by_maps"}
    missing |= {"from_identity_start", "from_identity_end"}
    assert {name for name, value in old.items() if isnan(value)} == missing
    assert all(map(isnan, values(made("running")).values()))


def test_a_run_too_short_to_judge_spikes_in_has_none_but_what_is_no_number():
    run = made()
    vars(run)["metrics"] = run.metrics[run.metrics["step"] < WINDOW]
    assert isnan(values(run)["loss_spikes"])
    broken = made("diverged")
    vars(broken)["metrics"] = run.metrics.assign(
        **{"loss/train": [nan, *[2.0] * 49, inf, *[2.0] * (WINDOW - 51)]}
    )
    assert values(broken)["loss_spikes"] == 1.0


def test_a_gradient_without_a_norm_was_clipped_where_the_clip_left_no_number():
    run = made()
    run.metrics.loc[3, ["grad/norm", "grad/clipped"]] = inf, nan
    assert values(run)["clipped"] == 100 * 9 / 160


def test_of_a_model_of_ones_own_whose_gradients_were_seen_now_and_then_no_spike_is_counted():
    run = made()
    run.config["model"]["own"] = "mine.Net"
    assert values(run)["grad_spikes"] == EXPECTED["grad_spikes"]
    seldom = made()
    seldom.config["model"]["own"] = "mine.Net"
    seldom.metrics.loc[seldom.metrics["step"] % 2 == 1, "grad/norm_body"] = nan
    assert isnan(values(seldom)["grad_spikes"])


def test_a_step_that_the_scaler_of_float16_tried_is_no_spike():
    run = made()
    tried = run.metrics["step"].isin([5, 6, 140, 141])
    vars(run)["metrics"] = run.metrics.assign(**{"grad/skipped": tried.astype(int)})
    norms = [key for key in run.metrics if key.startswith("grad/norm")]
    run.metrics.loc[tried, norms] = nan
    assert values(run)["grad_spikes"] == EXPECTED["grad_spikes"]
    broken = made()
    vars(broken)["metrics"] = run.metrics.assign(**{"grad/skipped": 0})
    assert values(broken)["grad_spikes"] == EXPECTED["grad_spikes"] + 4


def test_a_quantity_is_read_once_and_only_when_it_is_asked_for(monkeypatch):
    run, asked = made(), []
    for name in ("bpc", "composite"):
        counting = replace(LEDGER[name], read=lambda recorded, name=name: asked.append(name) or 1.0)
        monkeypatch.setitem(LEDGER, name, counting)
    assert [values(run)["bpc"] for _ in range(3)] == [1.0] * 3
    assert asked == ["bpc"]


def test_a_ratio_and_a_difference_are_compared_each_on_its_scale():
    bits, gain = LEDGER["bpc"], LEDGER["composite"]
    assert bits.compare(3.5, 3.0) == bits.gap(3.5, 3.0) == 0.5
    assert gain.compare(8.0, 2.0) == 4.0
    assert gain.gap(sqrt(2), sqrt(2)) == 0.0
    assert gain.gap(8.0, 2.0) == -gain.gap(2.0, 8.0)
    assert isnan(bits.compare(inf, inf))
    assert isnan(gain.gap(0.0, nan))


def test_the_noise_is_somewhat_more_than_recorded_runs_of_one_config_differ_by():
    same: dict[tuple, list[Run]] = {}
    for run in read_runs(checkout() / "results"):
        trained = {key: of for key, of in settings(run).items() if not key.startswith(KEPT)}
        same.setdefault((run.seed, *sorted(trained.items())), []).append(run)
    pairs = [pair for runs in same.values() for pair in combinations(runs, 2)]
    for layers, of_depth in (
        (8, [pair for pair in pairs if pair[0].layers < DEEP]),
        (DEEP, [pair for pair in pairs if pair[0].layers >= DEEP]),
    ):
        assert len(of_depth) > 5
        for name, quantity in LEDGER.items():
            if isnan(quantity.noise):
                continue
            gaps = [abs(quantity.gap(*(values(run)[name] for run in pair))) for pair in of_depth]
            largest = max(gap for gap in gaps if not isnan(gap))  # nan: both diverged
            assert largest <= quantity.margin(layers), name
            if layers < DEEP or not isnan(quantity.deep):
                assert quantity.margin(layers) <= (2 * largest or 0.5), name
        shifts: dict[tuple, list[float]] = {}  # of the bits of one seed's arms, from one study to another
        for one, other in of_depth:
            if one.state == other.state == "finished":
                beside = one.study, other.study, one.seed, one.layers, one.steps, one.config["optim"]["lr"]
                shifts.setdefault(beside, []).append(values(one)["bpc"] - values(other)["bpc"])
        widest = max(max(of_arms) - min(of_arms) for of_arms in shifts.values())
        assert widest <= LEDGER["bpc"].margin(layers)


def test_a_step_is_clipped_where_its_norm_is_over_the_limit_by_more_than_rounding():
    run = made()
    run.metrics.loc[3, "grad/norm"] = 1.05
    assert values(run)["clipped"] == 100 * 9 / STEPS
    run = made()
    run.metrics.loc[4, "grad/norm"] = nan  # as where a scaler has skipped it
    assert values(run)["clipped"] == pytest.approx(100 * 8 / (STEPS - 1))


def test_a_step_takes_as_long_as_one_that_nothing_disturbs():
    run = made()
    run.metrics.loc[1:, "time/step"] = [float(step) for step in range(STEPS)]
    assert values(run)["step_seconds"] == pytest.approx(0.05 * (STEPS - 1))


@pytest.mark.parametrize("keys", [("full", "empty"), ("empty", "full"), ("full", "not there")])
def test_the_largest_of_some_columns_is_that_of_those_with_numbers(keys):
    whole = pd.DataFrame({"full": [1.0, 2.0], "empty": [nan, nan]})
    assert largest(*keys)(Mock(whole=whole)) == 2.0
