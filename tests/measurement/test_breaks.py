"""What broke is named: the first tensor without a number, planted in every place, forward and backward."""

import math
from contextlib import nullcontext
from itertools import count

import pytest
import torch
from torch.nn import functional

from mhc_repro.connections import hyper
from mhc_repro.measurement.breaks import first_break

TOKENS = torch.arange(18).view(3, 6) % 17


def loss(logits: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), TOKENS.flatten())


def plant(model, where: str) -> None:
    """Make one tensor of sub-layer 3 overflow, in float32, from weights that are all finite."""
    connection, branch = model.connections[2], model.branches[2]
    with torch.no_grad():
        if where == "H_post":
            connection.write.alpha.fill_(3e38)
            connection.write.bias.fill_(3e38)
            connection.write.phi.fill_(1.0)
        elif where == "H_res":
            connection.mix.alpha.fill_(3e38)
            connection.mix.phi.fill_(1.0)
        elif where == "streams":
            connection.mix.bias.fill_(1e38)
            model.connections[1].mix.bias.fill_(1e3)
        elif where == "output":
            branch.qkv.weight.fill_(1e30)
            branch.out.weight.fill_(1e30)
            branch.norm.weight.fill_(1e30)


@pytest.mark.parametrize(
    ("name", "where"),
    [("hc", "H_post"), *(("mhc_unconstrained", where) for where in ("H_res", "streams", "output"))],
)
def test_the_first_tensor_without_a_number_is_named(tiny, name, where):
    model = tiny(name, awake=0.3, precision="float32").train()
    assert first_break(model, TOKENS, loss) == ""
    plant(model, where)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    place = "streams after" if where == "streams" else f"{where} of"
    assert first_break(model, TOKENS, loss) == f"forward: {place} sub-layer 3"


def test_a_state_whose_square_is_no_number_breaks_in_the_final_norm(tiny):
    model = tiny("mhc_unconstrained", awake=0.3, precision="float32").train()
    with torch.no_grad():
        model.connections[-1].mix.bias.fill_(1e25)
    assert first_break(model, TOKENS, loss) == "forward: final norm"
    with torch.no_grad():
        model.connections[-1].mix.bias.fill_(3e38)
    assert first_break(model, TOKENS, loss) == f"forward: streams after sub-layer {len(model.connections)}"


def test_a_weight_without_a_number_comes_first(tiny):
    model = tiny("hc", awake=0.3)
    with torch.no_grad():
        model.connections[1].read.bias[2] = torch.nan
    assert first_break(model, TOKENS, loss) == "the weights: connections.1.read.bias"


def test_a_gradient_that_overflows_behind_a_finite_loss_is_named(tiny):
    model = tiny("baseline", precision="float32").train()
    scaled = lambda logits: (loss(logits) * 1e-30).mul(3e38).mul(1e3)  # noqa: E731
    assert first_break(model, TOKENS, loss) == ""
    before = [parameter.clone() for parameter in model.parameters()]
    assert first_break(model, TOKENS, scaled) == "backward: gradient of the logits"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(map(torch.equal, before, model.parameters()))


class NoNumber(torch.autograd.Function):
    """What is used is what is given, and its gradient holds no number."""

    @staticmethod
    def forward(context, given):
        return given.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient * torch.nan


@pytest.mark.parametrize(("at", "name"), [(0, "H_res"), (1, "H_post"), (2, "streams"), (3, "output")])
def test_a_gradient_without_a_number_is_named_by_the_tensor_it_is_of(tiny, monkeypatch, at, name):
    layer, real = count(1), hyper.stages

    def stages(*settings):
        before, after = real(*settings)

        def after_with(*given):
            planted = [NoNumber.apply(each) if i == at else each for i, each in enumerate(given)]
            return after(*(planted if next(layer) == 3 else given))

        return before, after_with

    monkeypatch.setattr(hyper, "stages", stages)
    place = "streams after sub-layer 2" if name == "streams" else f"{name} of sub-layer 3"
    assert first_break(tiny("mhc", awake=0.3).train(), TOKENS, loss) == f"backward: gradient of the {place}"


def out_of_memory(given):
    raise torch.OutOfMemoryError("out of memory")


def out_of_memory_behind(logits: torch.Tensor) -> torch.Tensor:
    logits.register_hook(out_of_memory)
    return loss(logits)


@pytest.mark.parametrize("fails", [None, out_of_memory, out_of_memory_behind])
def test_what_is_looked_at_is_left_as_it_was_whatever_fails(tiny, monkeypatch, fails):
    monkeypatch.setattr(hyper, "compiled_stages", None)  # the step is made again by plain code
    model = tiny("mhc", awake=0.3).train()
    model.compile_connections()
    with pytest.raises(torch.OutOfMemoryError) if fails else nullcontext():
        first_break(model, TOKENS, fails or loss)
    assert all(connection.compiled for connection in model.connections)
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_readout_whose_sum_is_out_of_range_is_named(tiny):
    model, largest = tiny("mhc_unconstrained", awake=0.3, precision="float32").train(), []
    bias = model.connections[-1].mix.bias
    with torch.no_grad():
        bias.fill_(1e20)
        model(TOKENS, lambda layer, streams, *_: largest.append(streams.abs().max().item()))
        bias.fill_(1e20 * 2e38 / largest[-1])
    assert first_break(model, TOKENS, loss) == "forward: readout"


def test_a_loss_alone_is_named(tiny):
    model = tiny("mhc", awake=0.3).train()
    assert first_break(model, TOKENS, lambda logits: loss(logits) * math.inf) == "forward: loss"


def test_a_weights_gradient_alone_is_named(tiny):
    model = tiny("mhc", awake=0.3).train()
    model.norm.weight.register_hook(lambda gradient: gradient * math.nan)
    assert first_break(model, TOKENS, loss) == "backward: gradient of norm.weight"
