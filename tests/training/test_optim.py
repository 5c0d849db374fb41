"""Who is decayed, how the rate moves, what is clipped and which norms are told."""

import math

import pytest
import torch

from mhc_repro.config import OptimConfig
from mhc_repro.training.model import CONNECTION
from mhc_repro.training.optim import Clipper, decays, learning_rate, make_optimizer, set_rate
from stopping import assert_equal

BODY_DECAYED = {"qkv.weight", "out.weight", "up.weight", "down.weight"}


def with_gradients(model, scale: float = 1.0):
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def gradients(model) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def decayed_names(model, **settings) -> set[str]:
    """Find out by doing: with zero gradients, AdamW moves what it decays and nothing else."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.ones_like(parameter))
            parameter.grad = torch.zeros_like(parameter)
    make_optimizer(model, OptimConfig(**{"lr": 0.5, "weight_decay": 0.1} | settings)).step()
    moved = {name: parameter for name, parameter in model.named_parameters() if (parameter != 1).any()}
    expected = {name: torch.full_like(parameter, 1 - 0.5 * 0.1) for name, parameter in moved.items()}
    torch.testing.assert_close(moved, expected)
    return set(moved)


def test_body_matrices_and_phi_decay_and_nothing_else(tiny, arm):
    model = tiny(arm)
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.endswith(".phi") or (name.startswith("branches.") and name.split(".", 2)[2] in BODY_DECAYED)
    }
    kinds = {name.rsplit(".", 1)[1] for name in expected if name.startswith("connections.")}
    assert kinds == (set() if arm == "baseline" else {"phi"})
    assert decayed_names(model) == expected
    assert {name for name, parameter in model.named_parameters() if decays(name, parameter)} == expected


@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_the_switch_decays_everything_and_a_faster_connection_no_faster(tiny, arm, factor):
    model = tiny(arm)
    everything = {name for name, _ in model.named_parameters()}
    assert decayed_names(model, decay_all=True) == everything
    assert decayed_names(model, connection_lr=factor) == decayed_names(model)
    assert decayed_names(model, connection_lr=factor, decay_all=True) == everything


def test_gains_of_queries_and_keys_do_not_decay(tiny, arm):
    with_gains, without = tiny(arm, model={"qk_norm": True}), tiny(arm)
    assert decayed_names(with_gains) == decayed_names(without)


@pytest.mark.parametrize("factor", [1.0, 30.0])
def test_every_parameter_is_updated_once_by_adamw_as_published(tiny, arm, factor):
    """Two steps of Adam with decoupled decay, by its formulas (Loshchilov and Hutter, arXiv 1711.05101).

    Connections learn `factor` times as fast and decay as the body does.
    """
    model = with_gradients(tiny(arm))
    config = OptimConfig(lr=5e-3, betas=[0.8, 0.9], eps=1e-2, weight_decay=0.3, connection_lr=factor)
    optimizer = make_optimizer(model, config)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    moments = {name: (0.0, 0.0) for name in expected}
    set_rate(optimizer, 1e-2)
    for step in (1, 2):
        for name, parameter in model.named_parameters():
            m, v = moments[name]
            if step == 2:  # a gradient that stays would hide the betas
                parameter.grad = -3 * parameter.grad
            m, v = 0.8 * m + 0.2 * parameter.grad, 0.9 * v + 0.1 * parameter.grad**2
            moments[name] = m, v
            if decays(name, parameter):
                expected[name] -= 1e-2 * 0.3 * expected[name]
            rate = 1e-2 * (factor if name.startswith(CONNECTION) else 1.0)
            expected[name] -= rate * (m / (1 - 0.8**step)) / ((v / (1 - 0.9**step)).sqrt() + 1e-2)
        optimizer.step()
    torch.testing.assert_close(dict(model.named_parameters()), expected, rtol=1e-12, atol=1e-14)


def test_learning_rate_at_its_corners():
    config = OptimConfig(lr=4.0, warmup=0.05, final_lr=0.1)
    rates = [learning_rate(step, 200, config) for step in range(1, 201)]
    assert rates[0] == pytest.approx(0.4)  # 1/10 of the peak: warm-up is 10 steps
    assert rates[4] == pytest.approx(2.0)
    assert rates[9] == pytest.approx(4.0) == max(rates)
    assert rates[104] == pytest.approx(4.0 * 0.55)  # half-way down the cosine
    assert rates[-1] == pytest.approx(0.4)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    for step in (40, 150):
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 10) / 190))
        assert rates[step - 1] == pytest.approx(4.0 * cosine)


@pytest.mark.parametrize(
    ("steps", "warmup", "first", "last"),
    [
        (100, 0.0, 1.0, 0.1),  # no warm-up: nearly the peak at once
        (100, 1.0, 0.01, 1.0),  # nothing but warm-up
        (1, 0.05, 0.1, 0.1),
        (3, 0.05, 0.775, 0.1),
    ],
)
def test_learning_rate_of_runs_without_warm_up_or_without_end(steps, warmup, first, last):
    config = OptimConfig(lr=1.0, warmup=warmup, final_lr=0.1)
    assert learning_rate(1, steps, config) == pytest.approx(first, rel=1e-3)
    assert learning_rate(steps, steps, config) == pytest.approx(last)


@pytest.mark.parametrize(("warmup", "first"), [(0.0, 2.0), (0.1, 0.2)])
def test_a_constant_rate_is_the_peak_from_the_warm_up_to_the_end(warmup, first):
    config = OptimConfig(lr=2.0, warmup=warmup, schedule="constant")
    assert learning_rate(1, 100, config) == pytest.approx(first)
    assert {learning_rate(step, 100, config) for step in range(10, 101)} == {2.0}


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_clipping_is_that_of_torch(tiny, arm, scale):
    ours, torchs = (with_gradients(tiny(arm), scale) for _ in range(2))
    whole = torch.nn.utils.clip_grad_norm_(torchs.parameters(), 1.0)
    norms = Clipper(ours, 1.0).clip()
    assert norms.shape == (4,)
    assert norms[0].item() == pytest.approx(whole.item(), rel=1e-12)
    # torch adds 1e-6 to the norm
    torch.testing.assert_close(gradients(ours), gradients(torchs), rtol=1e-5, atol=0)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_norms_are_told_of_all_of_the_body_of_the_connections_and_after_clipping(tiny, arm, limit):
    model = with_gradients(tiny(arm))
    before = gradients(model)

    def norm(parameters) -> float:
        return math.sqrt(sum(p.grad.double().square().sum().item() for _, p in parameters()))

    parts = model.named_parameters, model.body_parameters, model.connection_parameters
    expected = list(map(norm, parts))
    told = Clipper(model, limit).clip().tolist()
    assert told == pytest.approx([*expected, norm(model.named_parameters)], rel=1e-12)
    assert told[3] == pytest.approx(1.0 if limit else expected[0], rel=1e-12)
    assert (expected[2] == 0) == (arm == "baseline")
    if not limit:
        assert_equal(gradients(model), before)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_body_and_connections_clipped_apart_are_each_clipped_as_torch_does(tiny, streams_arm, scale):
    ours, torchs = (with_gradients(tiny(streams_arm), scale) for _ in range(2))
    clip = torch.nn.utils.clip_grad_norm_
    body = clip([p for _, p in torchs.body_parameters()], 1.0).item()
    connections = clip([p for _, p in torchs.connection_parameters()], 1.0).item()
    told = Clipper(ours, 1.0, apart=True).clip().tolist()
    assert told[:3] == pytest.approx([math.hypot(body, connections), body, connections], rel=1e-12)
    assert told[3] == pytest.approx(math.hypot(min(body, 1), min(connections, 1)), rel=1e-12)
    torch.testing.assert_close(gradients(ours), gradients(torchs), rtol=1e-5, atol=0)


def test_gradients_that_are_all_zero_stay_so(tiny):
    model = with_gradients(tiny("mhc"), scale=0.0)
    assert Clipper(model, 1.0).clip().tolist() == [0.0] * 4
    assert all((gradient == 0).all() for gradient in gradients(model))


@pytest.mark.parametrize(("apart", "left"), [(False, 1.0), (True, 2**0.5)])
def test_a_run_is_clipped_as_its_config_says(start, apart, left):
    made = start("hc", optim={"clip": 1e-4, "clip_apart": apart})
    row = [made.step() for _ in range(2)][-1]
    assert row["grad/norm_connection"] > 1e-4 < row["grad/norm_body"]
    assert row["grad/clipped"] == pytest.approx(1e-4 * left, rel=1e-5)
