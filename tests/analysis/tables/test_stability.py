from typing import Any

import pandas as pd
import pytest

from mhc_repro.analysis.tables import stability
from mhc_repro.evidence.comparison import comparisons
from mhc_repro.evidence.ledger import values
from mhc_repro.evidence.styles import style
from mhc_repro.evidence.verdicts import Verdict
from mhc_repro.runs import Run

INF, NAN = float("inf"), float("nan")


def both(runs: list[Run]) -> pd.DataFrame:
    """Both tables as one frame with a row an arm."""
    answers, published, *_ = (each.frame for each in stability.tables(comparisons(runs)))
    return pd.concat([published, answers.drop(columns=["arm", "seeds"])], axis=1).set_index("arm")


def steps(**at: dict[int, float]) -> list[dict[str, float]]:
    """Sixty steps whose every-step metrics are 9 except where said, and decoys off the printed steps."""
    rows: list[dict[str, float]] = [{"step": 0}]
    nines = dict.fromkeys(("loss/train", "grad/norm", "grad/norm_body"), 9.0)
    rows += [{"step": step, **nines, "time/step": 0.1} for step in range(1, 61)]
    for key, changed in at.items():
        for step, value in changed.items():
            rows[step][key.replace("__", "/")] = value
    return rows


# Printed are steps 1, 21 and 41. The lowest loss (1.0) and the highest norm (99) lie between them.
ROWS = steps(
    loss__train={1: 5.5, 20: 1.0, 21: 2.125, 41: 2.5, 60: 0.5},
    grad__norm={1: 2.0, 21: 4.0, 41: 3.0, 42: 99.0},
    gain__activation={0: 1.0, 20: 2.0, 40: 12.0, 60: 5.0},
    gain__composite_forward={0: 1.0, 40: 51.25, 60: 50.0},
    gain__composite_backward={0: 1.0, 40: 1234.5, 60: 50.0},
    bpc__val={0: 8.0, 60: 3.5},
    bpc__test={60: 3.456},
)


def test_the_published_table_takes_every_twentieth_step(fake):
    row = both([fake("baseline", ROWS)]).loc["baseline"]
    assert row["final loss (nats)"] == "2.500"
    assert row["min loss (nats)"] == "2.125"
    assert row["avg grad norm"] == "3.000"
    assert row["max grad norm"] == "4.000"
    assert row["avg activation gain"] == "5.000"
    assert row["max activation gain"] == "12.00"


def test_the_stability_table_takes_every_step_and_probe(fake):
    row = both([fake("baseline", ROWS)]).loc["baseline"]
    assert row["held-out bpc"] == "3.456"
    assert row["max composite gain, fwd"] == "51.25"
    assert row["max composite gain, bwd"] == "1,234" or row["max composite gain, bwd"] == "1,235"
    # sixty steps, and the rule needs 128 before the one it judges
    assert row["spikes a run (loss + gradient)"] == "–"
    assert row["status"] == "finished"


def test_arms_that_were_not_run_are_those_the_study_is_about(fake):
    assert list(both([fake("baseline", ROWS)]).index) == ["baseline", "HC", "mHC"]
    labels = [style(arm).label for arm in ("published_hc", "published_mhc")]
    assert list(both([fake("baseline", ROWS, study="published")]).index) == ["baseline", *labels]


def test_a_model_of_ones_own_has_the_arms_that_it_has(fake):
    rows = [{"step": step, "loss/train": 1.0} for step in range(1, 140)]
    rows[0]["grad/norm_body"] = rows[20]["grad/norm_body"] = 1.0  # normed now and then
    frame = both([fake("mine", rows, model__own="GPT")])
    assert list(frame.index) == ["mine"]
    assert frame.loc["mine", "spikes a run (loss + gradient)"] == "0 + –"


def test_an_infinite_norm_is_clipped_to_no_number_and_counts(fake):
    rows = [{"step": s, "grad/norm": 9.0, "grad/clipped": 9.0 if s % 2 else 1.0} for s in range(1, 8)]
    rows.append({"step": 8, "grad/norm": INF, "grad/clipped": NAN})
    assert both([fake("baseline", rows, state="diverged")]).loc["baseline", "steps clipped (%)"] == "50"


def test_gradients_are_those_of_the_steps_that_can_be_judged(fake):
    """Steps 129 to 132 have norms of 2, 4, 6 and 5, of which two are clipped to 4; before them 99, and no clip."""
    rows = [{"step": s, "grad/norm_body": 99.0, "grad/norm": 9.0, "grad/clipped": 9.0} for s in range(1, 129)]
    for step, norm in enumerate((2.0, 4.0, 6.0, 5.0), start=129):
        clipped = min(norm, 4.0)
        rows.append({"step": step, "grad/norm_body": norm, "grad/norm": norm, "grad/clipped": clipped})
    row = both([fake("baseline", rows)]).loc["baseline"]
    assert row["median body grad norm"] == "4.500"
    assert row["max body grad norm"] == "6.000"
    assert row["steps clipped (%)"] == "2"
    short = both([fake("baseline", rows[:128])]).loc["baseline"]
    assert short["max body grad norm"] == short["median body grad norm"] == "–"
    assert short["steps clipped (%)"] == "0"


def test_a_gradient_that_is_not_finite_is_the_largest(fake):
    rows = [{"step": step, "grad/norm_body": 1.0} for step in range(1, 140)]
    row = both([fake("hc", [*rows, {"step": 140, "grad/norm_body": INF}], state="diverged")]).loc["HC"]
    assert row["max body grad norm"] == "inf"


def test_missing_runs_and_values_print_as_a_dash(fake):
    frame = both([fake("baseline", steps())])
    assert list(frame.index) == ["baseline", "HC", "mHC"]
    assert set(frame.loc["mHC"].drop("status")) == {"–"}
    assert frame.loc["mHC", "status"] == "no run"
    assert frame.loc["baseline", "max activation gain"] == "–"
    assert frame.loc["baseline", "held-out bpc"] == "–"


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_an_unfinished_run_shows_how_far_it_is_and_no_number(fake, state):
    row = both([fake("hc", ROWS, state=state, step=42)]).loc["HC"]
    assert row["status"] == f"{state} at 42/60"
    assert set(row.drop(["status", "seeds"])) == {"–"}


def test_a_diverged_run_has_no_final_loss_and_keeps_the_rest(fake):
    rows = [*ROWS[:43], {"step": 43, "loss/train": NAN, "grad/norm": INF, "grad/norm_body": INF}]
    rows[40]["bpc/val"] = 4.0
    row = both([fake("hc", rows, state="diverged", step=43)]).loc["HC"]
    assert row["final loss (nats)"] == "–"
    assert row["min loss (nats)"] == "2.125"
    assert row["held-out bpc"] == "4.000 (val)"
    assert row["spikes a run (loss + gradient)"] == "1 + 1"
    assert row["status"] == "diverged at 43/60"


def test_flags_stand_in_the_status(fake):
    dead = ("streams_never_separated",)
    control = Verdict(dead, control=("h_res_identity",))
    off = Verdict((), ("constraint_missed",))
    frame = both([fake("mhc", ROWS, verdict=off), fake("identity", ROWS, verdict=control)])
    assert frame.loc["mHC", "status"] == "finished; off the constraint: H_res sums are off 1"
    assert frame.loc["mHC, H_res = I", "status"].endswith("; control: H_res = I")


def test_step_time_is_that_of_the_steps_which_had_the_machine_to_themselves(fake):
    rows = [{"step": s, "time/step": 0.2 if s % 3 == 0 else 2 + s} for s in range(1, 61)]
    assert values(fake("baseline", rows))["step_seconds"] == 0.2


def test_seeds_of_one_arm_and_what_became_of_them(fake):
    def run(seed: int, bpc: float, **options: Any) -> Run:
        return fake("hc", steps(bpc__test={60: bpc}), seed=seed, **options)

    assert both([run(0, 3.4), run(1, 3.5)]).loc["HC", "held-out bpc"] == "3.400 / 3.500"
    # half-width: t(0.975, 2) * 0.1 / sqrt(3) = 4.3027 * 0.057735
    assert both([run(0, 3.4), run(1, 3.5), run(2, 3.6)]).loc["HC", "held-out bpc"] == "3.500 ± 0.248"
    broken = fake("hc", steps(bpc__val={20: 4.0}), seed=2, state="diverged", step=30)
    row = both([run(0, 3.4), run(1, 3.5), broken]).loc["HC"]
    assert row["held-out bpc"] == "3.400 / 3.500 (2 of 3)"
    assert row["seeds"] == "3"
    assert row["status"] == "finished (×2); diverged at 30/60 (×1)"


def test_spikes_are_told_a_run_so_that_unlike_numbers_of_seeds_compare(fake):
    def run(arm: str, seed: int, at: tuple[int, ...]) -> Run:
        rows = [{"step": s, "loss/train": 3.0 + s % 7 / 100, "grad/norm_body": 1.0} for s in range(1, 300)]
        for step in at:
            rows[step - 1] |= {"loss/train": 9.0, "grad/norm_body": 9.0}
        return fake(arm, rows, seed=seed)

    runs = [run("baseline", 0, (200,)), run("baseline", 1, (200, 250)), run("hc", 0, (200, 250))]
    found = both(runs)["spikes a run (loss + gradient)"].to_dict()
    assert found == {"baseline": "1.5 + 1.5", "HC": "2 + 2", "mHC": "–"}


def test_fixture_table(runs):
    """The committed fixture, by hand: printed steps 1, 21, ..., 141 (HC ends at 130, so at 121)."""
    metrics = {run.connection: run.metrics.set_index("step") for run in runs}
    frame = both(runs)
    for arm, label, last in (("baseline", "baseline", 141), ("hc", "HC", 121), ("mhc", "mHC", 141)):
        loss = [metrics[arm].loc[step, "loss/train"] for step in range(1, last + 1, 20)]
        norm = [metrics[arm].loc[step, "grad/norm"] for step in range(1, last + 1, 20)]
        assert frame.loc[label, "min loss (nats)"] == f"{min(loss):.3f}"
        assert frame.loc[label, "avg grad norm"] == f"{sum(norm) / len(norm):.3f}"
        assert frame.loc[label, "final loss (nats)"] == ("–" if arm == "hc" else f"{loss[-1]:.3f}")
    assert frame.loc["HC", "status"] == "diverged at 130/160"
    assert frame.loc["mHC", "status"] == "finished; dead: streams never separated"
    assert frame.loc["baseline", "spikes a run (loss + gradient)"] == "1 + 0"
    assert frame.loc["HC", "max composite gain, fwd"] == "2.592"
