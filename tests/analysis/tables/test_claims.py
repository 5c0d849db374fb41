from collections.abc import Callable

import pandas as pd
import pytest

from mhc_repro.analysis.claims import Claim
from mhc_repro.analysis.comparison import by_study
from mhc_repro.analysis.tables import claims
from mhc_repro.runs import Run

Fake = Callable[..., Run]
LOWER = Claim("mHC's loss is lower", "a paper", "held-out bpc", "mhc", "below", "hc")
AMPLIFIES = Claim("HC amplifies", "a paper", "composite gain", "hc", "above", "mhc")
BOUND = Claim("mHC is bounded", "a paper", "composite gain", "mhc", "below", 1.65)
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
