from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mhc_repro.analysis.comparison import by_study
from mhc_repro.analysis.summary import Summary
from mhc_repro.analysis.tables import claims
from mhc_repro.analysis.tables.claims import QUANTITIES, Claim, Pair
from mhc_repro.errors import UserError
from mhc_repro.runs import Run

Fake = Callable[..., Run]
INF, NAN = float("inf"), float("nan")
LOWER = Claim("mHC's loss is lower", "a paper", "held-out bpc", "mhc", "below", "hc")
MATCHES = Claim("mHC's loss is no higher", "a paper", "held-out bpc", "mhc", "at_most", "hc")
AMPLIFIES = Claim("HC amplifies", "a paper", "composite gain", "hc", "above", "mhc")
BOUND = Claim("mHC is bounded", "a paper", "composite gain", "mhc", "below", 1.65)
SURGES = Claim("HC's loss surges", "a paper", "loss spikes", "hc", "above", "mhc")
NEVER = Claim("HC fails at 27B", "a paper", cannot="no net is that large")


def run(
    fake: Fake, arm: str, bits: float = 3.0, forward: float = 1.0, backward: float = 1.0, **options: object
) -> Run:
    probe = {"step": 0, "gain/composite_forward": forward, "gain/composite_backward": backward}
    return fake(arm, [probe, {"step": 60, "bpc/test": bits}], **options)


def losses(fake: Fake, *bits: tuple[float, float], **options: object) -> list[Run]:
    """HC and mHC for each pair of losses, a seed each."""
    return [
        run(fake, arm, value, seed=seed, **options)
        for seed, pair in enumerate(bits)
        for arm, value in zip(("hc", "mhc"), pair, strict=True)
    ]


def only_row(claim: Claim, runs: list[Run]) -> dict[str, str]:
    (row,) = claims.table([claim], by_study(runs)).to_dict("records")
    return {str(key): text for key, text in row.items()}


@pytest.mark.parametrize(
    ("agreements", "said"),
    [
        ([1, 1, 0], "yes"),
        ([-1, 0, -1], "no"),
        ([1, 1, 1, -1], "mixed"),
        ([0, 0], "open"),
        ([0], "open"),
        ([-1], "no, one setting"),
        ([0, 1], "yes, one setting"),
        ([], "–"),
    ],
)
def test_only_settings_that_all_agree_decide(agreements: list[int], said: str) -> None:
    assert claims.verdict(agreements) == said


@pytest.mark.parametrize(
    ("claim", "ours", "other", "agreed"),
    [
        (LOWER, 2.9, 3.0, 1),
        (LOWER, 3.0, 2.9, -1),
        (LOWER, 2.995, 3.0, 0),  # as close as rounding can bring it
        (MATCHES, 3.005, 3.0, 1),
        (MATCHES, 3.02, 3.0, -1),
        (LOWER, INF, 3.0, -1),  # diverged
        (LOWER, INF, INF, 0),
        (AMPLIFIES, 60.0, 1.0, 1),
        (AMPLIFIES, 1.05, 1.0, 0),
        (AMPLIFIES, 0.8, 1.0, -1),
        (BOUND, 1.6, 1.65, 1),  # a number has no noise
        (BOUND, 1.7, 1.65, -1),
        (SURGES, 0.0, 0.0, 0),
        (SURGES, 1.0, 0.0, 1),
    ],
)
def test_a_pair_is_for_against_or_even(claim: Claim, ours: float, other: float, agreed: int) -> None:
    assert claims.agreement(claim, [Pair("", "", ours, other)]) == agreed


@pytest.mark.parametrize(
    ("claim", "gaps", "agreed"),
    [
        (LOWER, (-0.02, 0.001), 1),  # one is even
        (LOWER, (-0.02, 0.02), 0),
        (LOWER, (-0.06, -0.04, -0.05), 1),
        (LOWER, (0.06, 0.04, 0.05), -1),
        (LOWER, (-0.06, -0.04, 0.01), 0),  # -0.03 ± 0.09
        (LOWER, (-0.005, -0.005, -0.006), 0),  # clear of zero, and no more than rounding
        (LOWER, (-0.06, -0.05, -0.07, -0.05, -0.06, 0.011), 1),  # one seed against is no veto: -0.047 ± 0.031
        (LOWER, (-0.06, -0.04, INF), 0),  # no interval with a diverged run in it
        (LOWER, (INF, INF, INF), -1),
        (MATCHES, (0.001, -0.001, 0.0), 1),
        (MATCHES, (0.1, -0.1, 0.0), 0),  # so wide an interval does not show that they match
        (MATCHES, (0.05, 0.06, 0.05), -1),
        (MATCHES, (-0.05, -0.06, -0.05), 1),
    ],
)
def test_the_pairs_of_a_setting_decide_together(claim: Claim, gaps: tuple[float, ...], agreed: int) -> None:
    assert claims.agreement(claim, [Pair("", "", 3.0 + gap, 3.0) for gap in gaps]) == agreed


@pytest.mark.parametrize(
    ("ratios", "agreed"),
    [
        ((3.0, 4.0, 10.0, 5.0), 1),
        ((1 / 3, 1 / 4, 1 / 10, 1 / 5), -1),
        ((1.05, 1.06, 1.07), 0),
        ((0.1, 10.0, 2.0), 0),
    ],
)
def test_of_ratios_the_logarithms_have_the_interval(ratios: tuple[float, ...], agreed: int) -> None:
    """As they stand 3, 4, 10 and 5 are 5.5 ± 5.0, which holds 1; their logarithms are 1.60 ± 0.81."""
    assert claims.agreement(AMPLIFIES, [Pair("", "", each, 1.0) for each in ratios]) == agreed


def test_of_a_bound_all_runs_must_agree() -> None:
    for gains, agreed in (((1.0, 1.1, 1.2, 1.6), 1), ((1.0, 1.1, 1.2, 1.7), 0), ((1.7, 1.8, 2.0), -1)):
        assert claims.agreement(BOUND, [Pair("", "", gain, 1.65) for gain in gains]) == agreed


def test_each_quantity_reads_its_own_field() -> None:
    fields = {
        "held-out bpc": {"bpc": 7.0},
        "composite gain forward": {"composite_forward_max": 7.0},
        "activation gain": {"activation_max": 7.0},
        "gradient norm": {"grad_median": 7.0},
        "body gradient norm": {"grad_body_median": 7.0},
        "loss spikes": {"loss_spikes": 7.0},
    }
    for name, values in fields.items():
        assert QUANTITIES[name].of(Summary(0, "finished", "60/60", (), **values)) == 7.0, name
    assert set(QUANTITIES) - set(fields) == {"composite gain"}
    for forward, backward in ((7.0, 1.0), (1.0, 7.0)):
        both = {"composite_forward_max": forward, "composite_backward_max": backward}
        assert QUANTITIES["composite gain"].of(Summary(0, "finished", "60/60", (), **both)) == 7.0


def test_gradient_norms_are_those_after_the_first_128_steps(fake: Fake) -> None:
    claim = Claim("HC's gradient is larger", "a paper", "gradient norm", "hc", "above", "mhc")
    rows = [{"step": step, "grad/norm": 100.0 if step <= 128 else 2.0} for step in range(1, 160)]
    calm = [row | {"grad/norm": 1.0} for row in rows]
    assert only_row(claim, [fake("hc", rows), fake("mhc", calm)])["range"] == "2.000"


def test_a_row_counts_settings_by_rate_and_names_the_contrary(fake: Fake) -> None:
    slow, fast = {"study": "a", "optim__lr": 3e-4}, {"study": "b", "optim__lr": 3e-3}
    runs = [
        *losses(fake, (3.0, 3.25), **slow),
        *losses(fake, (3.0, 2.5), (3.0, 3.125), (3.0, 3.005), **fast),
        *losses(fake, (3.0, 3.125), (3.0, 3.005), study="d", optim__lr=3e-3),
        *losses(fake, (3.0, 2.75), study="c", optim__lr=3e-3, optim__clip=0.0),
        run(fake, "mhc", 1.0, seed=7, **slow),  # has no partner
    ]
    assert only_row(LOWER, runs) == {
        "claim": LOWER.claim,
        "source": LOWER.source,
        "quantity": "held-out bpc, mHC − HC",
        "at 0.0003": "0 : 1 : 0",
        "at 0.003": "0 : 1 : 1",
        "at 0.003, no clip": "1 : 0 : 0",
        "range": "-0.500 to 0.250",
        "came out": "mixed",
        "contrary": "a, d",
    }


def test_settings_are_never_paired_across(fake: Fake) -> None:
    runs = [run(fake, arm, model__blocks=blocks) for arm, blocks in (("hc", 4), ("mhc", 8))]
    assert claims.table([LOWER], by_study(runs)).empty


def test_a_ratio_is_of_the_larger_directions(fake: Fake) -> None:
    row = only_row(AMPLIFIES, [run(fake, "hc", forward=12.0), run(fake, "mhc", backward=1.5)])
    assert (row["quantity"], row["range"]) == ("composite gain, HC / mHC", "8.000")


def test_a_bound_is_asked_of_every_run(fake: Fake) -> None:
    row = only_row(
        BOUND, [run(fake, "mhc", backward=gain, seed=seed) for seed, gain in enumerate((1.0, 2.5))]
    )
    assert (row["quantity"], row["range"]) == ("composite gain, mHC", "1.000 to 2.500")
    assert (row["at 0.0003"], row["came out"]) == ("0 : 0 : 1", "open")


def test_a_diverged_run_has_lost_in_everything_and_an_unfinished_one_is_not_asked(fake: Fake) -> None:
    runs = [
        *(run(fake, arm, 3.0 - (arm == "mhc"), state="diverged", seed=0) for arm in ("hc", "mhc")),
        run(fake, "hc", 3.0, seed=1),
        run(fake, "mhc", 2.0, seed=1, state="diverged"),
        run(fake, "hc", 3.0, seed=2),
        run(fake, "mhc", 2.0, seed=2, state="interrupted"),
    ]
    assert (only_row(LOWER, runs)["at 0.0003"], only_row(LOWER, runs)["range"]) == (
        "0 : 1 : 0",
        "0.000 to inf",
    )
    assert only_row(AMPLIFIES, runs)["at 0.0003"] == "0 : 1 : 0"


def test_of_a_pair_that_two_studies_hold_the_first_by_name_counts(fake: Fake) -> None:
    runs = losses(fake, (3.0, 2.5), study="b")
    again = [
        Run(
            each.path.parents[1] / "a" / each.run_id,
            {**each.config, "study": "a"},
            each.manifest,
            each.status,
            "finished",
        )
        for each in runs
    ]
    for copy, bits in zip(again, (3.0, 2.75), strict=True):
        copy.__dict__["metrics"] = pd.DataFrame([{"step": 60, "bpc/test": bits}])
    assert only_row(LOWER, runs + again)["range"] == "-0.250"


def test_what_cannot_be_asked_says_why(fake: Fake) -> None:
    row = claims.table([NEVER, LOWER], by_study(losses(fake, (3.0, 2.5)))).to_dict("records")[0]
    assert (row["came out"], row["contrary"]) == ("not asked", NEVER.cannot)
    assert {row[key] for key in ("quantity", "at 0.0003", "range")} == {"–"}


def test_a_claim_without_a_pair_is_a_dash_and_no_claim_a_line(fake: Fake) -> None:
    assert claims.part({}) == claims.part(by_study([run(fake, "identity")])) == claims.EMPTY
    _, row = claims.table([BOUND, LOWER], by_study([run(fake, "mhc")])).to_dict("records")
    assert {row[key] for key in ("at 0.0003", "range", "came out")} == {"–"}


def test_every_claim_is_whole() -> None:
    found = claims.load()
    assert len({claim.claim for claim in found if not claim.claim.startswith("the same")}) > 10
    for claim in found:
        assert claim.source, claim
        assert bool(claim.cannot) != bool(claim.quantity), claim


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("quantity: held-out bpc, arm: hc", "needs one of above, below, at_most"),
        ("quantity: held-out bpc, arm: hc, above: mhc, below: mhc", "needs one of"),
        ("quantity: perplexity, arm: hc, above: mhc", "'perplexity' is none of held-out bpc"),
        ("quantity: held-out bpc, arm: hcc, above: mhc", "'hcc' is no file in conf/connection"),
        ("quantity: held-out bpc, arm: hc, above: '1.65'", "'1.65' is no file"),
        ("quantity: held-out bpc, arm: hc, above: true", "True is no file"),
        ("quantity: held-out bpc, arm: hc, above: mhc, times: 2", "times"),
        ("cannot: no, quantety: held-out bpc", "quantety"),
        ("quantity: [", "expected"),
    ],
)
def test_an_entry_nobody_understands_is_one_line(
    entry: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / claims.FILE).write_text(f"- {{claim: a, source: b, {entry}}}", encoding="utf-8")
    monkeypatch.setattr(claims, "checkout", lambda: tmp_path)
    with pytest.raises(UserError, match=r"^experiments/claims.yaml: .*git checkout") as error:
        claims.load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
