"""What changes no bit of a run and what it may not share: the probe, seeds, masks, a saved state, other arms."""

import pytest
import torch

from mhc_repro.corpora import data
from stopping import assert_equal
from tiny_training import run


def test_looking_at_true_gains_changes_no_step(start):
    rows = [run(start("hc", steps=2, probe={"every": 1, "true_gain": each})) for each in (False, True)]
    for row, other in zip(*rows, strict=True):
        assert row == {key: other[key] for key in row}
        assert other.keys() - row.keys() >= {"true_gain/streams_worst", "true_gain/readout_worst"}


def test_evaluation_takes_no_random_numbers_and_leaves_no_gradient(start):
    made = start("mhc", model={"dropout": 0.5})
    before = torch.get_rng_state()
    made.measure()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in made.model.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_probe_on_and_off_give_the_same_losses_bit_for_bit(start, arm, dropout):
    on, off = (
        run(start(arm, steps=5, model={"dropout": dropout}, probe={"enabled": enabled, "every": 1}))
        for enabled in (True, False)
    )
    for row_on, row_off in zip(on, off, strict=True):
        assert {key: row_on[key] for key in row_off} == row_off
        probed = [any(key.startswith("gain/") for key in row) for row in (row_on, row_off)]
        assert probed == [True, False]


def test_the_same_seed_gives_the_same_run_whatever_ran_before_and_another_seed_another(start, arm):
    first, other = (run(start(arm, seed=seed, model={"dropout": 0.3})) for seed in (0, 1))
    torch.manual_seed(99)
    again = start(arm, seed=0, model={"dropout": 0.3})
    torch.rand(5)
    assert run(again) == first
    assert all(a["loss/train"] != b["loss/train"] for a, b in zip(first[1:], other[1:], strict=True))


def test_arms_are_paired_same_body_same_batches_same_masks(start, streams_arm, monkeypatch):
    """The first loss of every arm is the baseline's although dropout is on: weights, batch and masks agree."""
    seen: dict[str, list] = {"baseline": [], streams_arm: []}
    original = data.batch
    monkeypatch.setattr(data, "batch", lambda *args: seen[name].append(original(*args)) or seen[name][-1])
    losses, states = {}, {}
    for name in ("baseline", streams_arm):
        made = start(name, seed=5, model={"dropout": 0.3})
        losses[name] = [made.step()["loss/train"] for _ in range(3)]
        states[name] = torch.get_rng_state()
    assert losses[streams_arm][0] == pytest.approx(losses["baseline"][0], abs=1e-10)
    assert losses[streams_arm][2] != pytest.approx(losses["baseline"][2], abs=1e-10)
    assert torch.equal(states[streams_arm], states["baseline"])
    assert_equal(seen[streams_arm], seen["baseline"])
    assert not torch.equal(seen["baseline"][0][0], seen["baseline"][1][0])


def test_masks_change_from_step_to_step_and_from_seed_to_seed(start):
    states = set()
    for seed in (0, 1):
        made = start("baseline", seed=seed, model={"dropout": 0.5})
        for _ in range(2):
            made.step()
            states.add(torch.get_rng_state().numpy().tobytes())
    assert len(states) == 4


def test_a_saved_state_continues_bit_for_bit(start, arm):
    settings = {"steps": 6, "model": {"dropout": 0.3}}
    whole = run(start(arm, **settings))
    first = start(arm, **settings)
    rows = [first.step() for _ in range(3)]
    second = start(arm, **settings)
    second.load(first.state())
    torch.rand(3)
    rows += [second.step() for _ in range(3)]
    for key in ("loss/train", "grad/norm"):
        assert [row[key] for row in rows] == [row[key] for row in whole[1:]]
