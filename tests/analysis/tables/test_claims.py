import pandas as pd
from msgspec.structs import replace

from fake_runs import held_by
from mhc_repro.analysis.tables import claims
from mhc_repro.evidence.claims import Claim, load
from mhc_repro.evidence.comparison import by_study
from mhc_repro.runs import Run

LOWER = Claim("mHC's loss is lower", "a paper", "bpc", "mhc", below="hc")
AMPLIFIES = Claim("HC amplifies", "a paper", "composite", "hc", above="mhc")
BOUND = Claim("mHC is bounded", "a paper", "composite", "mhc", below=1.65)
KIND = "16 × 256, 0.2 M"  # of a made-up run
NEVER = Claim("HC fails at 27B", "a paper", cannot="no net is that large")


def run(
    fake, arm: str, bits: float = 3.0, forward: float = 1.0, backward: float = 1.0, **options: object
) -> Run:
    probe = {"step": 0, "gain/composite_forward": forward, "gain/composite_backward": backward}
    return fake(arm, [probe, {"step": 60, "bpc/test": bits}], **options)


def losses(fake, *bits: tuple[float, float], **options: object) -> list[Run]:
    """HC and mHC for each pair of losses, a seed each."""
    return [
        run(fake, arm, value, seed=seed, **options)
        for seed, pair in enumerate(bits)
        for arm, value in zip(("hc", "mhc"), pair, strict=True)
    ]


def only_row(claim: Claim, runs: list[Run]) -> dict[str, str]:
    (row,) = claims.table([claim], by_study(runs)).to_dict("records")
    return {str(key): text for key, text in row.items()}


def test_gradient_norms_are_those_after_the_first_128_steps(fake):
    claim = Claim("HC's gradient is larger", "a paper", "grad_median", "hc", above="mhc")
    rows = [{"step": step, "grad/norm": 100.0 if step <= 128 else 2.0} for step in range(1, 160)]
    calm = [row | {"grad/norm": 1.0} for row in rows]
    assert only_row(claim, [fake("hc", rows), fake("mhc", calm)])["range"] == "2.000"


def test_a_row_counts_settings_by_kind_and_names_the_contrary(fake):
    long, short = {"train__steps": 2000}, {"train__steps": 300}
    below, above = [(3.0, 2.5), (3.0, 2.51), (3.0, 2.52)], [(3.0, 3.125), (3.0, 3.1), (3.0, 3.11)]
    runs = [
        *losses(fake, *below, study="a", **long),
        *losses(fake, (3.0, 3.25), (3.0, 3.75), study="b", optim__lr=3e-3, **long),  # two pairs
        *losses(fake, *above, study="c", **short),
        *losses(fake, *above, study="d", optim__clip=0.0, **short),
        *losses(fake, (3.0, 3.5), study="e", model__blocks=4, **short),
        run(fake, "mhc", 1.0, seed=7, study="a", **long),  # has no partner
    ]
    assert only_row(LOWER, runs) == {
        "claim": LOWER.claim,
        "source": LOWER.source,
        "quantity": "held-out bpc, mHC − HC",
        "16 × 256, 8.2 M": "1 : 0 : 1",
        "16 × 256, 1.2 M": "0 : 2 : 0",
        "8 × 256, 1.2 M": "0 : 0 : 1",
        "range": "-0.500 to 0.750",
        "came out": "yes, at 16 × 256, 8.2 M",
        "contrary": "c, d",
        "note": "",
    }


def test_the_seeds_of_two_studies_of_one_net_decide_together(fake):
    runs = losses(fake, (3.0, 2.75), study="depth")
    later = losses(fake, *[(3.0, 2.76)] * 3, study="seeds")[2:]
    assert only_row(LOWER, runs)["came out"] == only_row(LOWER, later)["came out"] == "open"
    assert only_row(LOWER, runs + later)[KIND] == "1 : 0 : 0"


def test_settings_are_never_paired_across(fake):
    runs = [run(fake, arm, model__blocks=blocks) for arm, blocks in (("hc", 4), ("mhc", 8))]
    assert claims.table([LOWER], by_study(runs)).empty


def test_a_ratio_is_of_the_larger_directions(fake):
    row = only_row(AMPLIFIES, [run(fake, "hc", forward=12.0), run(fake, "mhc", backward=1.5)])
    assert (row["quantity"], row["range"]) == ("max composite gain, HC / mHC", "8.000")


def test_a_bound_is_asked_of_every_run(fake):
    runs = [run(fake, "mhc", backward=gain, seed=seed) for seed, gain in enumerate((1.0, 2.5))]
    row = only_row(BOUND, runs)
    assert (row["quantity"], row["range"]) == ("max composite gain, mHC", "1.000 to 2.500")
    assert (row[KIND], row["came out"]) == ("0 : 1 : 0", f"no, at {KIND}")


def test_of_what_is_reached_no_setting_is_contrary(fake):
    claim = Claim("HC reaches ten", "a paper", "composite", "hc", reaches=10.0)
    runs = [
        run(fake, "hc", forward=gain, study="deep", seed=seed, model__blocks=blocks)
        for blocks, gains in ((4, (2.0, 11.0)), (8, (1.0, 3.0)), (16, (12.0, 50.0)))
        for seed, gain in enumerate(gains)
    ]
    row = only_row(claim, runs)
    counts = [row[f"{layers} × 256, 0.2 M"] for layers in (8, 16, 32)]
    assert counts == ["0 : 0 : 1", "0 : 1 : 0", "1 : 0 : 0"]
    assert (row["came out"], row["contrary"]) == ("yes, at 32 × 256, 0.2 M", "")


def test_a_diverged_run_has_lost_and_keeps_its_gains_and_an_unfinished_one_is_not_asked(fake):
    died, on = {"state": "diverged"}, {"state": "interrupted"}
    runs = [
        run(fake, "hc", 3.0, forward=9.0, seed=0, **died),
        run(fake, "mhc", 2.0, seed=0, **died),
        run(fake, "hc", 3.0, forward=8.0, seed=1),
        run(fake, "mhc", 2.0, seed=1, **died),
        run(fake, "hc", 3.0, forward=70.0, seed=2),
        run(fake, "mhc", 2.0, seed=2, **on),
    ]
    row = only_row(LOWER, runs)
    assert (row[KIND], row["range"]) == ("0 : 0 : 1", "inf")  # both diverged, one did, the last is under way
    assert only_row(AMPLIFIES, runs)["range"] == "8.000 to 9.000"


def test_nothing_is_said_of_a_ratio_with_a_zero(fake):
    runs = [run(fake, arm, forward=gain, backward=gain) for arm, gain in (("hc", 9.0), ("mhc", 0.0))]
    row = only_row(AMPLIFIES, runs)
    assert (row[KIND], row["range"], row["came out"]) == ("0 : 0 : 1", "–", "open")


def test_of_a_pair_that_two_studies_hold_the_first_by_name_counts(fake):
    runs = losses(fake, (3.0, 2.5), study="b")
    again = [held_by("a", each) for each in runs]
    for copy, bits in zip(again, (3.0, 2.75), strict=True):
        copy.__dict__["metrics"] = pd.DataFrame([{"step": 60, "bpc/test": bits}])
    assert only_row(LOWER, runs + again)["range"] == "-0.250"


def test_what_cannot_be_asked_says_why(fake):
    row = claims.table([NEVER, LOWER], by_study(losses(fake, (3.0, 2.5)))).to_dict("records")[0]
    assert (row["came out"], row["note"]) == ("not asked", NEVER.cannot)
    assert {row[key] for key in ("quantity", KIND, "range")} == {"–"}


def test_how_far_a_yes_reaches_stands_beside_it(fake):
    claim = replace(LOWER, means="not that it is better")
    assert only_row(claim, losses(fake, (3.0, 2.5)))["note"] == "not that it is better"
    for arm in ("mhc_lite", "kromhc"):
        (said,) = (each.means for each in load() if each.arm == arm and each.side == "at_most")
        assert "no constraint was put to the test" in said


def test_a_claim_without_a_pair_is_a_dash_and_no_claim_a_line(fake):
    assert claims.part({}) == claims.part(by_study([run(fake, "identity")])) == claims.EMPTY
    _, row = claims.table([BOUND, LOWER], by_study([run(fake, "mhc")])).to_dict("records")
    assert {row[key] for key in (KIND, "range", "came out")} == {"–"}


def test_what_is_contrary_is_named_by_the_study_that_holds_its_runs(fake):
    known = losses(fake, (2.5, 3.0), (2.51, 3.0), (2.52, 3.0))
    hc, mhc = ([run for run in known if run.connection == arm] for arm in ("hc", "mhc"))
    runs = [*(held_by("among", run) for run in hc), *(held_by("beside", run) for run in [*hc, *mhc])]
    assert only_row(LOWER, runs)["contrary"] == "beside"


def test_in_short_what_a_yes_means_stands_once_behind_the_claims_it_is_said_of(fake, monkeypatch):
    asked = [
        replace(LOWER, claim=name, means=means)
        for name, means in (("A", "no more"), ("B", "no more"), ("C", ""))
    ]
    monkeypatch.setattr(claims, "load", lambda: [*asked, AMPLIFIES])
    runs = losses(fake, (3.0, 2.5), (3.0, 2.51), (3.0, 2.52))
    *_, third, _, means, _, left = claims.brief(by_study(runs)).splitlines()
    assert third.startswith("| C | yes, ")
    assert (means, left) == ("A; B: no more.", "Open: 1 more.")


def test_of_a_study_apart_only_what_others_train_counts(fake):
    """`edge` is one: at another's rate its seeds count, at a rate of its own no claim is put to them."""
    here, there = {"optim__lr": 3e-3}, {"optim__lr": 1e-1}
    seeds = losses(fake, *[(3.0, 2.75)] * 3, study="edge", **here)
    runs = [*losses(fake, (3.0, 2.75), study="depth", **here), *seeds[2:]]
    alone = losses(fake, *[(3.0, 3.75)] * 3, study="edge", **there)
    assert only_row(LOWER, [*runs, *alone])[KIND] == "1 : 0 : 0"
    assert claims.table([LOWER], by_study(alone)).empty
