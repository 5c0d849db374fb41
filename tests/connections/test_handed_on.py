"""What a sub-layer hands on beside the streams, and what it knows of the training: single pass, annealed writes."""

import pytest
import torch
from torch import Tensor

from mhc_repro.connections.maps import make_maps
from mhc_repro.training.trainer import Trainer

TOKENS = torch.arange(12).view(2, 6) % 17


@torch.no_grad()
def test_a_single_pass_reads_with_what_the_sub_layer_before_made(tiny):
    """A sub-layer makes all three maps of the state it finds; of H_pre it applies the one that it was handed."""
    model, states, seen = tiny("single_pass", awake=0.5), [], []

    def observe(layer: int, streams: Tensor, maps, carry) -> None:
        states.append(streams.flatten(0, 1))
        seen.extend([maps] if layer else [])

    logits = model.eval()(TOKENS, observe)
    made = [
        make_maps(each.form, x, *each.joined()) for each, x in zip(model.connections, states, strict=False)
    ]
    first = torch.eye(4, dtype=torch.float64)[:, :1].expand(4, 12)
    for maps, own, read in zip(seen, made, (first, *(each.read for each in made)), strict=False):
        torch.testing.assert_close(maps.read, read)
        torch.testing.assert_close(maps.write, own.write)
        torch.testing.assert_close(maps.mix, own.mix)
    joined = (made[-1].read.T[..., None] * states[-1]).sum(1).view(2, 6, 8)
    torch.testing.assert_close(model.norm(joined) @ model.embedding.weight.T, logits)


@torch.no_grad()
def test_its_first_read_is_no_gate_and_its_home_stream_the_next_one(tiny):
    model = tiny("single_pass")
    assert [int(each.read.bias.argmax()) for each in model.connections] == [1, 2, 3, 0]
    x = torch.ones(1, 1, 4, 8, dtype=torch.float64)
    first, _ = (each.gate_slope(each(x, torch.sin).maps).item() for each in model.connections[:2])
    assert first == pytest.approx(1)  # of its writes, in the middle of their range


def test_its_writes_start_on_the_home_stream_of_the_sub_layer_itself(tiny):
    for arm in ("single_pass", "mhc"):
        found = tiny(arm, write_start=[-1.0, 1.0]).connections
        assert [int(each.write.bias.argmax()) for each in found] == [0, 1, 2, 3]


@torch.no_grad()
def test_writes_are_annealed_over_the_training_and_only_they(tiny):
    model, plain, found = tiny("mhc_annealed", awake=0.5), tiny("mhc", awake=0.5), []
    x = torch.ones(1, 1, 4, 8, dtype=torch.float64)
    for progress in (0.0, 0.5, 1.0):
        model.at(progress)
        found.append([each(x, torch.sin).maps for each in model.connections])
    own = [each(x, torch.sin).maps for each in plain.connections]
    for maps, factor in zip(found, (1, 0.75, 0.5), strict=True):
        for each, other, connection in zip(maps, own, model.connections, strict=True):
            torch.testing.assert_close(each.write, factor * other.write)
            assert torch.equal(each.read, other.read)
            assert torch.equal(each.mix, other.mix)
            assert 0 < connection.gate_slope(each) <= 1
    slope = plain.connections[0].gate_slope(own[0]).item()
    assert model.connections[0].gate_slope(found[2][0]) == pytest.approx(slope)


def test_the_trainer_says_how_far_it_is_and_so_does_a_resumed_one(config):
    trainer = Trainer(config("mhc_annealed", steps=4), torch.device("cpu"))
    scales = [trainer.model.connections[0].write_scale]
    for _ in range(4):
        trainer.step()
        scales.append(trainer.model.connections[0].write_scale)
    assert scales == [1, 0.875, 0.75, 0.625, 0.5]
    other = Trainer(config("mhc_annealed", steps=4), torch.device("cpu"))
    other.load(trainer.state())
    assert other.model.connections[0].write_scale == 0.5
