"""The Jacobian's gains against torch's own Jacobian and against nets whose gain is known."""

import pytest
import torch

from mhc_repro.measurement import jacobian

TOKENS = torch.arange(12).view(2, 6) % 17


def test_rows_are_those_of_torchs_jacobian(tiny, arm, monkeypatch):
    monkeypatch.setattr(jacobian, "COPIES", 3)  # 8 features: two whole backwards and a part
    model = tiny(arm, awake=0.5).eval()
    x = model.embed(TOKENS)[1].detach()

    def last(token: torch.Tensor) -> torch.Tensor:
        return model.trunk(torch.cat([x[:-1], token[None]])[None])[0, -1]

    expected = torch.autograd.functional.jacobian(last, x[-1])
    made = jacobian.token_jacobian(model.trunk, x)
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-12)
    random, worst = jacobian.relative_gains(model.trunk, x[None])
    unit = x[-1].norm() / last(x[-1]).norm()
    assert worst == pytest.approx((torch.linalg.matrix_norm(expected, 2) * unit).item(), rel=1e-9)
    probes = torch.randn(8, 20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = (expected @ (probes / probes.norm(dim=0))).square().sum(0).mean().sqrt() * unit
    assert random == pytest.approx(moved.item(), rel=0.02)


def test_a_gain_is_relative():
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).double()).Q
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2)).double()
    for function in (lambda x: 7 * x @ rotation, lambda x: x):
        assert jacobian.relative_gains(function, x) == pytest.approx((1.0, 1.0), rel=1e-12)


def test_gains_are_the_mean_over_the_sequences(tiny):
    model = tiny("mhc", awake=0.5).eval()
    embedded = model.embed(TOKENS).detach()
    each = torch.tensor([jacobian.relative_gains(model.trunk, one[None]) for one in embedded])
    assert (each[0] - each[1]).abs().min() > 1e-3
    assert jacobian.relative_gains(model.trunk, embedded) == pytest.approx(each.mean(0).tolist(), rel=1e-6)


def test_a_net_without_numbers_has_no_gain():
    random, worst = jacobian.relative_gains(lambda x: x * torch.nan, torch.ones(1, 2, 4))
    assert random != random
    assert worst != worst


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float32, 5e-3), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("tokens", [128, 8192])
def test_the_worst_direction_is_found_though_it_is_of_one_token(dtype, rel, tokens):
    """LayerNorm's worst gain is 1 / sigma of the token that varies least."""
    x = torch.randn(tokens, 64, generator=torch.Generator().manual_seed(0))
    x[0] /= 5
    x[1] = 0  # of which no direction says anything

    empty = torch.arange(tokens)[:, None] == 1

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (64,)).masked_fill(empty, 0.0)

    expected = x.norm() / function(x).norm() / x[0].std(correction=0)
    _, worst = jacobian.power_gains(function, x.to(dtype), torch.Generator().manual_seed(1), iterations=20)
    assert worst == pytest.approx(expected.item(), rel=rel)


@pytest.mark.parametrize("size", [1e-15, 1.0, 1e15])
def test_a_gain_is_no_matter_of_the_size_of_what_comes_out(size):
    """In float32, where squares of a large gain are out of range."""
    x, generator = torch.ones(2, 3), torch.Generator().manual_seed(1)
    assert jacobian.power_gains(lambda x: size * x, x, generator) == pytest.approx((1.0, 1.0), rel=1e-2)


@pytest.mark.parametrize("size", [1e-25, 1e-18, 1e18, 3e18, 1e25])
def test_nor_of_the_size_of_the_state_whose_squares_are_out_of_range(size):
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(2, 6, generator=generator), torch.randn(6, 6, generator=generator)

    def gains(x: torch.Tensor, factor: float) -> tuple[float, float]:
        return jacobian.power_gains(lambda x: factor * x @ weight.T, x, torch.Generator().manual_seed(1))

    expected = gains(x, 1.0)
    assert expected[0] > 0.1
    assert gains(x, size) == pytest.approx(expected, rel=0.01)
    assert gains(size * x, 1.0) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("x", [torch.zeros(2, 3), torch.full((2, 3), torch.nan)])
def test_a_state_without_a_size_has_no_gain(x):
    random, worst = jacobian.power_gains(lambda x: x + 1, x, torch.Generator().manual_seed(1))
    assert random != random
    assert worst != worst


def test_of_a_net_that_is_deaf_to_its_input_no_direction_has_a_gain():
    gains = jacobian.power_gains(lambda x: 0 * x + 1, torch.ones(2, 3), torch.Generator().manual_seed(1))
    assert gains == (0.0, 0.0)


def test_where_nothing_comes_out_there_is_no_gain():
    """What is relative to 0 is no number: not a gain of any size, nor a division by zero."""
    random, worst = jacobian.power_gains(lambda x: x - 1, torch.ones(2, 3), torch.Generator().manual_seed(1))
    assert random != random
    assert worst != worst


def test_where_no_gradient_comes_back_the_random_direction_is_all_there_is():
    """As of a detached history: differences see it, reverse mode does not."""
    x, generator = torch.ones(2, 3, dtype=torch.float64), torch.Generator().manual_seed(1)
    gains = jacobian.power_gains(lambda x: x.detach() + 0 * x, x, generator)
    assert gains == pytest.approx((1.0, 1.0), rel=1e-6)


def test_a_worst_direction_that_leads_to_no_number_has_no_gain():
    """A random direction moves the first feature a little; the worst moves it alone, and too far."""
    x = torch.ones(1, 64, dtype=torch.float64)
    most = 1 + torch.finfo(x.dtype).eps ** (1 / 3) * x.norm().item() / 2

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([9 * x[:, :1] + 0 * (most - x[:, :1]).sqrt(), x[:, 1:]], dim=1)

    random, worst = jacobian.power_gains(function, x, torch.Generator().manual_seed(1))
    assert 0 < random < 9
    assert worst != worst


def test_power_iteration_finds_the_largest_singular_value():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    weight = weight + 4 * torch.outer(weight[0], weight[1]) / weight[0].norm() / weight[1].norm()

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ weight.T)

    x = 0.3 * torch.randn(2, 6, generator=generator, dtype=torch.float64)
    whole = torch.autograd.functional.jacobian(lambda flat: function(flat.view(2, 6)).flatten(), x.flatten())
    unit = x.norm() / function(x).norm()
    random, worst = jacobian.power_gains(function, x, torch.Generator().manual_seed(1), iterations=60)
    assert worst == pytest.approx((torch.linalg.svdvals(whole)[0] * unit).item(), rel=1e-6)
    direction = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double().flatten()
    moved = (whole @ direction).norm() / direction.norm() * unit
    assert random == pytest.approx(moved.item(), rel=1e-6)
