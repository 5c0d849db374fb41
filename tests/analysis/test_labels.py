import pytest

from mhc_repro.analysis import labels
from mhc_repro.evidence.comparison import comparisons


@pytest.mark.parametrize(("name", "said"), [("enwik8", "enwik8"), ("synthetic", "SYNTHETIC DATA")])
def test_the_protocol_names_its_data(fake, name, said):
    (found,) = comparisons([fake("mhc", data__name=name, connection__n=4)])
    protocol = f"8 blocks × 256, n = 4, peak learning rate 0.0003, 60 steps of 32 × 128, {said}"
    assert labels.protocol(found) == protocol
    assert labels.title(found) == f"study made-up: {protocol}; mhc; one seed (0)"


def test_of_a_model_of_ones_own_nothing_is_said_that_nobody_measured(fake):
    own = {"model__own": "GPT, lr=0.01", "model__layers": 5, "connection__n": 2, "data__name": "own"}
    (found,) = comparisons([fake("mhc", train__steps=0, status={"steps": 70}, **own)])
    assert labels.protocol(found) == "GPT, lr=0.01, 5 connections, n = 2, 70 steps of 32 × 128"
    assert "commit" not in labels.provenance([found])


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("optim__clip", 0.0, "no gradient clipped"),
        ("optim__connection_lr", 100.0, "that of the maps 100 times it"),
    ],
)
def test_the_protocol_names_a_missing_clip_and_a_rate_of_the_maps(fake, setting, value, said):
    (found,) = comparisons([fake("hc", **{setting: value})])
    assert f"peak learning rate 0.0003, {said}, 60 steps" in labels.protocol(found)


def test_the_protocol_of_a_sweep_names_the_ends_of_its_rates(fake):
    runs = [fake("hc", optim__lr=rate) for rate in (1e-2, 1e-3, 3e-3)]
    (found,) = comparisons(runs, swept="optim.lr")
    assert "peak learning rate 0.001 to 0.01, 60 steps" in labels.protocol(found)


def test_seeds_are_counted_and_named(fake):
    (found,) = comparisons([fake("mhc", seed=7), fake("hc"), fake("mhc")])
    assert labels.seeds_text(found) == "2 seeds (0, 7)"


def test_provenance_names_study_settings_runs_and_commits(fake):
    runs = [fake("hc", study="depth", model__blocks=blocks) for blocks in (4, 8)]
    runs.append(fake("mhc", study="depth", model__blocks=8, manifest={"dirty": True}))
    assert labels.provenance(comparisons(runs)) == (
        "*Study `depth` (blocks 4, one seed (0); blocks 8, one seed (0)): 3 runs, commit abcdef0, "
        "abcdef0 with uncommitted changes. Regenerate: `make report`.*"
    )


def test_a_quick_study_is_called_no_evidence(fake):
    found = comparisons([fake(study="quick")])
    text = labels.provenance(found)
    assert text.startswith("**A demonstration, not evidence.** *Study `quick` (8 blocks")


def test_a_commit_nobody_knows_is_unknown():
    assert labels.code({"commit": "unknown"}) == "unknown"
