import numpy as np
import pytest
from scipy.stats import norm, t

from mhc_repro.analysis.tables.claims import caption
from mhc_repro.errors import UserError
from mhc_repro.evidence import claims, kept, stats
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.claims import Claim, Pair
from mhc_repro.evidence.comparison import Kind, by_study, joined
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.places import checkout
from mhc_repro.runs import read_runs

INF = float("inf")
LONG, SMALLER, SHORT = Kind(8_192_000, 16, 256), Kind(8_192_000, 8, 128), Kind(614_400, 8, 128)
LOWER = Claim("mHC's loss is lower", "a paper", "bpc", "mhc", below="hc")
MATCHES = Claim("mHC's loss is no higher", "a paper", "bpc", "mhc", at_most="hc")
AMPLIFIES = Claim("HC amplifies", "a paper", "composite", "hc", above="mhc")
BOUND = Claim("mHC is bounded", "a paper", "composite", "mhc", below=1.65)
REACHES = Claim("HC reaches a thousand", "a paper", "composite", "hc", reaches=1000.0)
SURGES = Claim("HC's loss surges", "a paper", "loss_spikes", "hc", above="mhc")


def agreement(claim: Claim, *pairs: tuple[float, float]) -> int:
    return claims.agreement(claim, [Pair(*pair) for pair in pairs], layers=8)


@pytest.mark.parametrize(
    ("claim", "ours", "other", "agreed"),
    [
        (LOWER, 2.9, 3.0, 1),
        (LOWER, 3.0, 2.9, -1),
        (LOWER, 2.995, 3.0, 0),  # as close as rounding can bring it
        (MATCHES, 3.005, 3.0, 1),
        (MATCHES, 3.02, 3.0, -1),
        (LOWER, INF, 3.0, -1),  # diverged
        (LOWER, 3.0, INF, 1),
        (LOWER, INF, INF, 0),
        (MATCHES, INF, INF, 0),  # two that diverged match in nothing
        (AMPLIFIES, 60.0, 1.0, 1),
        (AMPLIFIES, 1.25, 1.0, 0),  # one config gave 17 and 22
        (AMPLIFIES, 0.75, 1.0, -1),
        (AMPLIFIES, 60.0, 0.0, 0),  # a ratio with a zero in it is no evidence
        (AMPLIFIES, 0.0, 60.0, 0),
        (AMPLIFIES, 3.0, INF, -1),
        (AMPLIFIES, 0.0, 0.0, 0),
        (SURGES, 0.0, 0.0, 0),
        (SURGES, 1.0, 0.0, 1),
    ],
)
def test_three_pairs_that_are_alike_decide_and_two_never_do(claim, ours, other, agreed):
    assert agreement(claim, *[(ours, other)] * 3) == agreed
    assert agreement(claim, *[(ours, other)] * 2) == agreement(claim, (ours, other)) == agreement(claim) == 0


def test_an_arm_diverges_more_often_only_if_the_other_never_does():
    only_one = [(3.0, INF)] * 3
    assert agreement(LOWER, *only_one) == 1
    assert agreement(LOWER, *only_one, (INF, INF)) == agreement(LOWER, *only_one, (2.9, 3.0)) == 0


@pytest.mark.parametrize(
    ("claim", "gaps", "agreed"),
    [
        (LOWER, (-0.06, -0.04, -0.05), 1),
        (LOWER, (0.06, 0.04, 0.05), -1),
        (LOWER, (-0.06, -0.04, 0.01), 0),  # -0.03 ± 0.09
        (LOWER, (-0.005, -0.005, -0.006), 0),  # clear of zero, and no more than rounding
        (LOWER, (-0.06, -0.05, -0.07, -0.05, -0.06, 0.011), 1),  # one seed against is no veto: -0.047 ± 0.031
        (LOWER, (-0.06, -0.04, INF), 0),  # no interval with a diverged run in it
        (LOWER, (0.06, INF, INF), 0),
        (LOWER, (INF, INF, INF), -1),
        (MATCHES, (0.001, -0.001, 0.0), 1),
        (MATCHES, (0.1, -0.1, 0.0), 0),  # so wide an interval does not show that they match
        (MATCHES, (0.05, 0.06, 0.05), -1),
        (MATCHES, (-0.05, -0.06, -0.05), 1),
    ],
)
def test_the_pairs_of_a_setting_decide_together(claim, gaps, agreed):
    assert agreement(claim, *[(3.0 + gap, 3.0) for gap in gaps]) == agreed


def test_a_pair_that_says_nothing_is_left_out_of_what_the_others_say():
    lower = [(2.94, 3.0), (2.96, 3.0), (2.95, 3.0)]
    assert agreement(LOWER, *lower, (INF, INF)) == 1
    assert agreement(LOWER, *lower[:2], (INF, INF)) == 0


@pytest.mark.parametrize(
    ("ratios", "agreed"),
    [
        ((3.0, 4.0, 10.0, 5.0), 1),
        ((1 / 3, 1 / 4, 1 / 10, 1 / 5), -1),
        ((1.05, 1.06, 1.07), 0),
        ((0.1, 10.0, 2.0), 0),
    ],
)
def test_of_ratios_the_logarithms_have_the_interval(ratios, agreed):
    """As they stand 3, 4, 10 and 5 are 5.5 ± 5.0, which holds 1; their logarithms are 1.60 ± 0.81."""
    assert agreement(AMPLIFIES, *[(each, 1.0) for each in ratios]) == agreed


@pytest.mark.parametrize(
    ("gains", "agreed"),
    [
        ((1.0, 1.1, 1.6), 1),
        ((1.0, 1.6), 0),
        ((1.0, 1.1, 1.2, 1.7), -1),  # said of every run: one is a counterexample
        ((1.7,), -1),
        ((INF,), -1),
    ],
)
def test_a_number_is_said_of_every_run(gains, agreed):
    assert agreement(BOUND, *[(gain, 1.65) for gain in gains]) == agreed


def test_a_number_that_is_reached_is_not_passed():
    at_most = Claim("at_most", "x", "composite", "mhc", at_most=1.65)
    below = Claim("below", "x", "composite", "mhc", below=1.65)
    assert [agreement(each, *[(1.65, 1.65)] * 3) for each in (at_most, below)] == [1, 0]


@pytest.mark.parametrize("pairs", [3, 8])
@pytest.mark.parametrize("scatter", [0.009, 0.3])  # of HC against the baseline, and wide
def test_what_is_not_so_is_decided_in_one_case_of_twenty(pairs, scatter):
    gaps = np.random.default_rng(pairs).normal(0, scatter, (4000, pairs))
    wrong = np.mean([agreement(LOWER, *zip(3 + each, [3.0] * pairs, strict=True)) != 0 for each in gaps])
    assert wrong < 0.06
    assert wrong > 0.04 or scatter < 0.04  # ... and rarer only where the noise swallows the scatter


def test_runs_that_diverge_by_the_toss_of_a_coin_decide_in_one_case_of_thirty():
    tosses = np.random.default_rng(0).random((6000, 3, 2)) < 0.5
    losses = np.where(tosses, INF, 3.0)
    wrong = np.mean([agreement(LOWER, *map(tuple, each)) != 0 for each in losses.tolist()])
    assert wrong == pytest.approx(2 / 64, abs=0.008)


def test_how_often_fewer_pairs_would_decide_what_is_not_so():
    """The figures of the claims' caption, from the scatter of the six recorded seeds."""
    (seeds,) = by_study(read_runs(checkout() / "results", "seeds")).values()
    bits = {
        arm: {seed: values(run)["bpc"] for seed, run in seeds[0].ended(arm).items() if seed < 8}
        for arm in main_arms()
    }
    one, two, three = [], [], []
    draw = np.random.default_rng(0)
    for ours, other in (("hc", "baseline"), ("mhc", "baseline"), ("mhc", "hc")):
        scatter = np.std(list(stats.paired(bits[ours], bits[other]).values()), ddof=1)
        outside = 2 * norm.sf(LEDGER["bpc"].noise / scatter)
        one.append(outside)
        two.append(2 * outside * (1 - outside) + outside**2 / 2)  # one is even, or both on one side
        null = draw.normal(0, scatter, (20_000, 3))
        mean, half = null.mean(1), t.ppf(0.975, 2) * null.std(1, ddof=1) / np.sqrt(3)
        three.append(np.mean(np.abs(mean) > np.maximum(half, LEDGER["bpc"].noise)))
    found = [f"{100 * min(each):.0f} to {100 * max(each):.0f} %" for each in (one, two, three)]
    assert found == ["25 to 82 %", "40 to 64 %", "1 to 5 %"]
    for words in found[:2]:
        assert words in caption()
    correlations = [stats.pairing_correlation(bits[arm], bits["baseline"]) for arm in ("hc", "mhc")]
    assert correlations == pytest.approx([0.93, 0.09], abs=0.005)  # as stats.py says


def test_a_claim_is_asked_of_what_was_measured_in_both_the_longest_trainings_first(fake):
    sizes = {"short": (4, 2, 60), "small": (2, 8, 120), "large": (4, 8, 120)}
    runs = [
        fake(arm, bits=3.0, study=study, seed=seed, model__blocks=blocks, train__steps=steps)
        for study, (blocks, seeds, steps) in sizes.items()
        for arm in ("hc", "mhc")
        for seed in range(seeds)
    ]
    runs += [
        fake("mhc", [], study="short", seed=2, model__blocks=4),
        fake("hc", bits=3.0, study="short", seed=2, model__blocks=4),
    ]
    settings = joined(by_study(runs))
    asked = claims.ask(LOWER, settings)
    assert [(each.setting, len(each.pairs)) for each in asked] == [("large", 8), ("small", 8), ("short", 2)]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "open"),
        ([(LONG, 0), (SHORT, 0)], "open"),
        ([(LONG, 1), (LONG, 1), (SHORT, -1)], "yes, at 8.2 M"),  # the short ones have no vote
        ([(LONG, 0), (SHORT, -1), (SHORT, -1)], "no, at 0.6 M"),
        ([(LONG, 1), (SMALLER, -1), (SHORT, -1)], "mixed, at 8.2 M"),  # as long, and smaller
        ([(LONG, 0), (SMALLER, 1)], "yes, at 8 × 128, 8.2 M"),
    ],
)
def test_the_longest_trainings_that_decide_are_what_comes_out(found, said):
    names = ("first", "second + another study's", "third")
    asked = [(claims.Asked(name, kind, []), way) for name, (kind, way) in zip(names, found, strict=False)]
    assert claims.verdict(LOWER, asked) == said
    assert claims.verdict(LOWER, asked[::-1]) == said


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        # one run below it refutes nothing
        ([(2605.0, 5820.0), (2.0, 71.0, 60.0)], "yes, at 16 × 256, 8.2 M"),
        ([(2.0,), (1001.0, 1002.0)], "yes, at 8 × 128, 8.2 M"),
        ([(2605.0, 5820.0), (INF,)], "yes, at 16 × 256, 8.2 M; 8 × 128, 8.2 M"),
        ([(2.0, 999.0), (1000.0,)], "no, nowhere"),
        ([(2605.0, 999.0), (2.0,)], "open"),  # of one net some runs reach it
        ([(float("nan"),)], "open"),
    ],
)
def test_what_is_reached_is_so_in_one_setting_and_not_so_in_none(gains, said):
    found = [
        (claims.Asked("", kind, []), agreement(REACHES, *[(gain, 1000.0) for gain in of_setting]))
        for kind, of_setting in zip((LONG, SMALLER), gains, strict=False)
    ]
    assert claims.verdict(REACHES, found) == said
    assert claims.verdict(REACHES, []) == "open"


def test_every_claim_is_whole():
    found = claims.load()
    assert len({claim.claim for claim in found if not claim.claim.startswith("the same")}) > 10
    for claim in found:
        assert claim.source, claim
        assert bool(claim.cannot) != bool(claim.quantity), claim


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("quantity: held-out bpc, arm: hc", "needs one of above, below, at_most, reaches"),
        ("quantity: held-out bpc, arm: hc, above: mhc, below: mhc", "needs one of"),
        ("quantity: perplexity, arm: hc, above: mhc", "'perplexity' is none of bpc"),
        ("quantity: held-out bpc, arm: hcc, above: mhc", "'hcc' is no file in conf/connection"),
        ("quantity: held-out bpc, arm: hc, above: '1.65'", "'1.65' is no file"),
        ("quantity: composite, arm: hc, reaches: mhc", "[0].reaches: expected float | null, got str"),
        ("quantity: held-out bpc, arm: hc, above: true", "[0].above: expected float | str | null, got bool"),
        ("quantity: held-out bpc, arm: hc, above: mhc, times: 2", "times"),
        ("cannot: nobody, quantety: held-out bpc", "quantety"),
        ("quantity: [", "expected node content"),
    ],
)
def test_an_entry_nobody_understands_is_one_line(entry, said, tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / claims.FILE).write_text(f"- {{claim: a, source: b, {entry}}}", encoding="utf-8")
    monkeypatch.setattr(kept, "checkout", lambda: tmp_path)
    with pytest.raises(UserError, match=r"^experiments/claims.yaml: .*git checkout") as error:
        claims.load()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
