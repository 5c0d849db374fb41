from pathlib import Path

import pytest

from mhc_repro.analysis import claims
from mhc_repro.analysis.claims import QUANTITIES, Claim, Pair
from mhc_repro.analysis.summary import Summary
from mhc_repro.errors import UserError

INF = float("inf")
LOWER = Claim("mHC's loss is lower", "a paper", "held-out bpc", "mhc", "below", "hc")
MATCHES = Claim("mHC's loss is no higher", "a paper", "held-out bpc", "mhc", "at_most", "hc")
AMPLIFIES = Claim("HC amplifies", "a paper", "composite gain", "hc", "above", "mhc")
BOUND = Claim("mHC is bounded", "a paper", "composite gain", "mhc", "below", 1.65)
SURGES = Claim("HC's loss surges", "a paper", "loss spikes", "hc", "above", "mhc")


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
