from collections.abc import Callable
from pathlib import Path

import pytest

from mhc_repro.analysis.arms import promises
from mhc_repro.analysis.comparison import by_study
from mhc_repro.analysis.tables import claims
from mhc_repro.analysis.tables.claims import Claim, Pair
from mhc_repro.errors import UserError
from mhc_repro.runs import Run

Fake = Callable[..., Run]
LOWER = Claim("mHC's loss is lower", "a paper", "held-out bpc", "mhc", "hc", above=False)
AMPLIFIES = Claim("HC's gain is tenfold", "a paper", "composite gain", "hc", "baseline", True, times=10)
BOUND = Claim("mHC's gain is bounded", "a paper", "composite gain", "mhc", 1.65, above=False)
SURGES = Claim("HC's loss surges", "a paper", "loss spikes", "hc", "mhc", above=True)


def run(fake: Fake, arm: str, bits: float = 3.0, gain: float = 1.0, **options: object) -> Run:
    probe = {"step": 0, "gain/composite_forward": 1.0, "gain/composite_backward": gain}
    return fake(arm, [probe, {"step": 60, "bpc/test": bits}], **options)


def losses(fake: Fake, *bits: tuple[float, float]) -> list[Run]:
    """HC and mHC for each pair of losses, a seed each."""
    return [
        run(fake, arm, value, seed=seed)
        for seed, pair in enumerate(bits)
        for arm, value in zip(("hc", "mhc"), pair, strict=True)
    ]


def only_row(claim: Claim, runs: list[Run]) -> dict[str, str]:
    (row,) = claims.table([claim], by_study(runs)).to_dict("records")
    return {str(key): text for key, text in row.items()}


@pytest.mark.parametrize(
    ("agree", "disagree", "equal", "said"),
    [
        (5, 0, 0, "open"),  # 2 / 2^5 is more than 5 %
        (6, 0, 0, "holds"),
        (6, 0, 9, "holds"),
        (0, 6, 0, "fails"),
        (8, 1, 0, "holds"),  # 2 (1 + 9) / 2^9 = 3.9 %
        (7, 1, 0, "open"),  # 2 (1 + 8) / 2^8 = 7.0 %
        (1, 8, 0, "fails"),
        (0, 0, 5, "open"),
        (0, 0, 6, "no difference"),
        (0, 0, 0, "–"),
    ],
)
def test_a_verdict_needs_what_the_sign_test_needs(agree: int, disagree: int, equal: int, said: str) -> None:
    assert claims.verdict([1] * agree + [-1] * disagree + [0] * equal) == said


@pytest.mark.parametrize(
    ("claim", "ours", "other", "agreed"),
    [
        (LOWER, 2.9, 3.0, 1),
        (LOWER, 3.0, 2.9, -1),
        (LOWER, 2.992, 3.0, 0),  # rounding
        (LOWER, float("inf"), 3.0, -1),  # diverged
        (LOWER, float("inf"), float("inf"), 0),
        (AMPLIFIES, 10.5, 1.0, 1),
        (AMPLIFIES, 9.5, 1.0, -1),
        (BOUND, 1.6, 1.65, 1),
        (BOUND, 1.7, 1.65, -1),
        (SURGES, 0.0, 0.0, 0),
        (SURGES, 1.0, 0.0, 1),
    ],
)
def test_a_pair_agrees_or_not(claim: Claim, ours: float, other: float, agreed: int) -> None:
    assert claims.agreement(claim, Pair("", ours, other)) == agreed


def test_a_row_counts_pairs_and_names_the_contrary(fake: Fake) -> None:
    runs = losses(fake, (3.0, 2.5), (3.0, 3.125), (3.0, 3.005))
    row = only_row(LOWER, [*runs, run(fake, "mhc", 1.0, seed=7)])  # the last has no partner
    assert row["quantity"] == "held-out bpc, mHC − HC"
    assert (row["range"], row["agree"]) == ("-0.500 to 0.125", "1 of 3 (1 equal)")
    assert (row["verdict"], row["contrary"]) == ("open", "made-up")


def test_settings_are_never_paired_across_and_are_named_apart(fake: Fake) -> None:
    runs = [
        run(fake, "hc", 3.0, study="depth", model__blocks=4),
        run(fake, "mhc", 9.0, study="depth", model__blocks=8),
        *(run(fake, arm, bits, study="eps") for arm, bits in (("hc", 3.0), ("mhc", 4.0))),
    ]
    row = only_row(LOWER, runs)
    assert (row["agree"], row["range"], row["contrary"]) == ("0 of 1", "1.000", "eps")


def test_a_gain_counts_its_larger_direction_against_the_factor(fake: Fake) -> None:
    row = only_row(AMPLIFIES, [run(fake, "baseline"), run(fake, "hc", gain=12.0)])
    assert (row["quantity"], row["range"], row["agree"]) == (
        "composite gain, HC / baseline",
        "12.00",
        "1 of 1",
    )


def test_a_bound_is_asked_of_every_run(fake: Fake) -> None:
    row = only_row(BOUND, [run(fake, "mhc", gain=gain, seed=seed) for seed, gain in enumerate((1.0, 2.5))])
    assert (row["quantity"], row["range"], row["agree"]) == (
        "composite gain, mHC",
        "1.000 to 2.500",
        "1 of 2",
    )


def test_spikes_are_summed(fake: Fake) -> None:
    surge = [{"step": step, "loss/train": 9.0 if step == 150 else 3.0 + step % 2} for step in range(1, 200)]
    calm = [row | {"loss/train": 3.0 + row["step"] % 2} for row in surge]
    row = only_row(SURGES, [fake("hc", surge), fake("mhc", calm)])
    assert (row["range"], row["agree"]) == ("1 : 0", "1 of 1")


def test_a_diverged_run_has_lost_and_an_unfinished_one_is_not_asked(fake: Fake) -> None:
    runs = [
        run(fake, "hc", 3.0),
        run(fake, "mhc", 2.0, state="diverged"),
        run(fake, "hc", 3.0, seed=1),
        run(fake, "mhc", 2.0, seed=1, state="interrupted"),
    ]
    row = only_row(LOWER, runs)
    assert (row["range"], row["agree"]) == ("inf", "0 of 1")


def test_a_pair_that_two_studies_hold_counts_once(fake: Fake) -> None:
    runs = losses(fake, (3.0, 2.5))
    again = [
        Run(run.path.parents[1] / "quick" / run.run_id, run.config, run.manifest, run.status, run.state)
        for run in runs
    ]
    for copy, run in zip(again, runs, strict=True):
        copy.__dict__["metrics"] = run.metrics
    assert only_row(LOWER, runs + again)["agree"] == "1 of 1"


def test_without_a_pair_there_is_a_line_and_no_table(fake: Fake) -> None:
    assert claims.part({}) == claims.part(by_study([run(fake, "hc")])) == claims.EMPTY
    _, row = claims.table([BOUND, LOWER], by_study([run(fake, "mhc")])).to_dict("records")
    assert (row["range"], row["agree"], row["verdict"]) == ("–", "0 of 0", "–")


def test_every_claim_has_a_source_and_is_of_arms_there_are() -> None:
    known = set(promises())
    for claim in claims.load():
        assert claim.claim, claim
        assert claim.source, claim
        assert claim.quantity in claims.QUANTITIES
        assert claim.arm in known
        assert claim.other in known if isinstance(claim.other, str) else claim.other > 0
        assert claim.times > 0


@pytest.mark.parametrize(
    "text",
    [
        "- {claim: a, source: b, quantity: held-out bpc, arm: hc}",  # neither side
        "- {claim: a, source: b, quantity: held-out bpc, arm: hc, above: mhc, below: mhc}",
        "- {claim: a, source: b, quantity: perplexity, arm: hc, above: mhc}",
        "- {claim: a, source: b, quantity: held-out bpc, arm: hc, above: mhc, tims: 2}",
        "- [1",
        "7",
    ],
)
def test_a_file_nobody_understands_is_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / claims.FILE).write_text(text, encoding="utf-8")
    monkeypatch.setattr(claims, "checkout", lambda: tmp_path)
    with pytest.raises(UserError, match=r"experiments/claims.yaml: .*git checkout") as error:
        claims.load()
    assert "\n" not in str(error.value)
