"""How streams begin and end, and maps that are frozen: mHC Table 1's ablation."""

import math

import pytest
import torch

from drawn_numbers import drawn
from mhc_repro.connections import build
from mhc_repro.connections.maps import make_maps
from own_models import stirred
from tiny_steps import spread, train

TOKENS = torch.arange(12).view(2, 6) % 17


def test_lss_scales_each_stream_by_its_own_learned_numbers(tiny):
    model = tiny("mhc_lss")
    scale = dict(model.connection_parameters())["expansion.scale"]
    bound = math.sqrt(6 / (4 + 8))
    assert scale.shape == (4, 8)
    assert (scale - 0.6).abs().max() <= bound
    assert (scale - 0.6).abs().max() > bound / 2
    seen = []
    with torch.no_grad():
        model(TOKENS, lambda layer, streams, *_: seen.append(streams) if layer == 0 else None)
        x = model.embedding(TOKENS) + model.position.weight
    torch.testing.assert_close(seen[0], x[:, :, None] * scale)
    torch.manual_seed(9)
    assert torch.equal(dict(tiny("mhc_lss").connection_parameters())["expansion.scale"], scale)
    assert not torch.equal(dict(tiny("mhc_lss", seed=1).connection_parameters())["expansion.scale"], scale)


def test_lss_is_drawn_apart_from_the_body_and_is_not_decayed(tiny):
    from mhc_repro.training.optim import decays

    model, other = tiny("mhc_lss"), dict(tiny("mhc").body_parameters())
    for name, parameter in model.body_parameters():
        assert torch.equal(parameter, other[name])
    own = [(name, p) for name, p in model.connection_parameters() if name.startswith("expansion")]
    assert not any(decays(name, parameter) for name, parameter in own)


def test_a_head_starts_as_half_the_sum_and_learns_to_read_by_token(tiny):
    model = tiny("mhc", reduce="head")
    with torch.no_grad():
        torch.testing.assert_close(model(TOKENS), tiny("mhc")(TOKENS), rtol=0, atol=1e-9)
    train(model, steps=5)
    own = dict(model.connection_parameters())
    assert own["reduction.bias"].abs().min() > 1e-4
    assert own["reduction.phi"].abs().max() > 1e-4


@pytest.mark.parametrize("arm_name", ["hc", "mhc"])
@pytest.mark.parametrize("frozen", [["read"], ["write"], ["mix"], ["read", "write"], ["read", "mix"]])
def test_a_frozen_map_is_its_constant_and_has_no_parameter(connection, arm_name, frozen):
    module = build(connection(arm_name, freeze=frozen), 1, 8).double()
    x = drawn(6, 4, 8)
    maps = make_maps(module.form, x, *module.joined())
    constants = {
        "read": torch.full((4, 6), 0.25),
        "write": torch.ones(4, 6),
        "mix": torch.eye(4)[..., None].expand(4, 4, 6),
    }
    for name, constant in constants.items():
        assert (getattr(module, name) is None) == (name in frozen)
        if name in frozen:
            assert torch.equal(getattr(maps, name), constant.double())


def test_with_reads_and_writes_frozen_nothing_tells_copies_apart(tiny):
    """Table 1's first row from copies is a single-stream net; a home stream or LSS makes it one of n."""
    spreads = []
    for settings in (
        {"freeze": ["read", "write"]},
        {"freeze": ["write"]},
        {"freeze": ["read", "write"], "expand": "lss"},
    ):
        model = tiny("hc", **settings, model={"norm_eps": 1e-30})
        train(model, steps=5)
        spreads.append(max(spread(model)))
    assert spreads[0] < 1e-8
    assert min(spreads[1:]) > 1e-3


@pytest.mark.parametrize(("gate", "added"), [("sigmoid", 0.1), ("tanh", 0.0), ("softmax", 0.0)])
def test_eps_is_added_to_a_sigmoid_read_alone(connection, gate, added):
    reads = []
    for eps in (0.0, 0.1):
        module = build(connection("mhc", coefficients="static", gate=gate, eps=eps), 1, 8)
        reads.append(module(torch.randn(1, 3, 4, 8), torch.sin).maps.read)
    torch.testing.assert_close(reads[1] - reads[0], torch.full((4, 3), added))


def test_hc_of_its_own_paper_shares_a_scale_and_centres_each_stream(connection):
    module = build(connection("hc_original"), 1, 8).double()
    assert module.mix.alpha is module.read.alpha
    assert module.write.alpha is not module.read.alpha
    stirred(module, by=1.0)
    x = drawn(6, 4, 8, seed=1)
    normed = torch.nn.functional.layer_norm(x, (8,), eps=0)
    maps = make_maps(module.form, x, *module.joined())
    b = module.mix.bias.view(4, 4)
    expected = module.mix.alpha * torch.einsum("kc,njc->nkj", module.mix.phi, normed).tanh() + b
    torch.testing.assert_close(maps.mix.permute(2, 0, 1), expected)
    torch.testing.assert_close(
        maps.write.T, module.write.alpha * (normed @ module.write.phi[0]).tanh() + module.write.bias
    )
