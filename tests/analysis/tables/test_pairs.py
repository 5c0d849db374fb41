import pytest

from fake_runs import held_by
from mhc_repro.analysis.tables import pairs
from mhc_repro.evidence.comparison import by_study
from mhc_repro.evidence.verdicts import Verdict
from mhc_repro.reasons import OFF
from mhc_repro.runs import Run


def rows(bits: float, *gains: tuple[float, float]) -> list[dict[str, float]]:
    """A probe for each pair of gains, a step between them, and the test at the end."""
    probes = [
        {"step": 20 * at, "gain/composite_forward": fwd, "gain/composite_backward": bwd}
        for at, (fwd, bwd) in enumerate(gains)
    ]
    return [{"step": 0}, *probes, {"step": 59, "bpc/val": 9.0}, {"step": 60, "bpc/test": bits}]


def test_settings_of_a_sweep_are_told_apart(fake):
    runs = trio(fake, study="eps") + trio(fake, study="eps", optim__eps=1e-20)
    assert pairs.table(by_study(runs))["study"].tolist() == ["eps eps 1e-20", "eps eps 1e-08"]


def trio(fake, bits: tuple[float, float, float] = (3.0, 2.875, 3.25), **options: object) -> list[Run]:
    gains = {"baseline": [(1.0, 1.0)], "hc": [(1.0, 1.0), (60.0, 70.0), (5.0, 4.0)], "mhc": [(1.0, 1.25)]}
    return [fake(arm, rows(value, *gains[arm]), **options) for arm, value in zip(gains, bits, strict=True)]


def only_row(runs: list[Run]) -> dict[str, str]:
    (row,) = pairs.table(by_study(runs)).to_dict("records")
    return {str(key): text for key, text in row.items()}


def test_differences_of_held_out_bits_and_the_larger_gain(fake):
    row = only_row(trio(fake, study="depth"))
    assert (row["study"], row["baseline"]) == ("depth", "3.000")
    assert row["HC − baseline"] == "-0.125"
    assert row["mHC − baseline"] == "0.250"
    assert row["mHC − HC"] == "0.375"
    assert row["HC's gain"] == "70.00"
    assert row["HC's gain at the end"] == "5.000"
    assert row["mHC's gain"] == "1.250"
    assert row["identity − baseline"] == "–"


def test_seeds_are_paired_and_those_without_all_three_arms_are_left_out(fake):
    runs = [
        *trio(fake, (3.0, 2.5, 3.5)),
        *trio(fake, (4.0, 4.25, 4.0), seed=1),
        *trio(fake, (9.0, 1.0, 1.0), seed=2)[:2],
        fake("mhc", rows(5.0, (1.0, 1.0)), seed=2, state="interrupted"),
        fake("identity", rows(4.5, (1.0, 1.0)), seed=1),
        fake("identity", rows(7.0, (1.0, 1.0)), seed=2),
    ]
    row = only_row(runs)
    assert row["baseline"] == "3.000 / 4.000"
    assert row["HC − baseline"] == "-0.500 / 0.250"
    assert row["mHC − HC"] == "1.000 / -0.250"
    assert row["identity − baseline"] == "0.500 (1 of 2)"
    assert row["quarter − baseline"] == "–"


def test_a_run_that_two_studies_hold_counts_once(fake):
    runs = trio(fake, study="arms")
    again = [held_by("quick", run) for run in runs]
    assert pairs.table(by_study(runs + again))["study"].tolist() == ["arms"]
    frame = pairs.table(by_study(runs + again + trio(fake, (4.0, 4.0, 4.0), seed=1, study="quick")))
    assert frame[["study", "baseline"]].to_numpy().tolist() == [["arms + quick", "3.000 / 4.000"]]


def test_the_longest_trainings_come_first(fake):
    runs = trio(fake, study="a") + trio(fake, study="b", train__steps=600)
    runs += trio(fake, study="c", optim__lr=1e-2)
    frame = pairs.table(by_study(runs))
    assert frame["study"].tolist() == ["b", "a", "c"]
    assert frame["tokens"].tolist() == ["2.5 M", "0.2 M", "0.2 M"]  # steps of 32 windows of 128


def test_a_run_that_diverged_has_lost_its_pairs_and_no_other(fake):
    runs = [
        *trio(fake),
        *trio(fake, (3.0, 2.0, 9.0), seed=1)[:2],
        fake("mhc", rows(1.0, (1.0, 1.0)), seed=1, state="diverged"),
    ]
    row = only_row(runs)
    assert row["HC − baseline"] == "-0.125 / -1.000"
    assert row["mHC − baseline"] == "0.250 / inf"


def test_three_seeds_have_intervals_of_losses_and_ranges_of_gains(fake):
    of_seeds = [trio(fake, (bits, bits - 0.125, 6.0), seed=seed) for seed, bits in enumerate((3.0, 4.0, 5.0))]
    row = only_row([run for of_seed in of_seeds for run in of_seed])
    assert row["HC − baseline"] == "-0.125 ± 0.000"
    assert row["mHC − baseline"] == "2.000 ± 2.484"
    assert row["HC's gain"] == "70.00"


def test_studies_of_one_net_share_a_row(fake):
    runs = trio(fake, study="depth", model__blocks=4) + trio(fake, study="depth", model__blocks=8)
    runs += [run for seed in (1, 2) for run in trio(fake, study="seeds", seed=seed, model__blocks=4)]
    frame = pairs.table(by_study(runs)).set_index("study")
    gaps = {"depth blocks 4 + seeds": "-0.125 ± 0.000", "depth blocks 8": "-0.125"}
    assert frame["HC − baseline"].to_dict() == gaps


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_without_three_finished_arms_there_is_a_line_and_no_table(fake, state):
    runs = [*trio(fake)[:2], fake("mhc", rows(1.0, (1.0, 1.0)), state=state)]
    assert pairs.part(by_study(runs)) == pairs.part({}) == pairs.EMPTY


def test_a_gain_of_a_run_that_is_off_the_constraint_is_marked(fake):
    off = Verdict(off_the_constraint=(OFF,))
    runs = [
        fake(arm, rows(3.0, (2.0, 2.0)), verdict=off if arm == "mhc" else Verdict())
        for arm in ("baseline", "hc", "mhc")
    ]
    row = only_row(runs)
    assert (row["HC's gain"], row["mHC's gain"]) == ("2.000", "2.000 †")
