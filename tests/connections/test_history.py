"""Depth history: its weights, what it detaches, and the gain of its companion matrix."""

import math
from itertools import product

import pytest
import torch

from arms_table import HISTORY
from mhc_repro.connections import build
from mhc_repro.connections.history import project_to_simplex
from mhc_repro.measurement.gains import gain_rows
from one_connection import streams


@pytest.mark.parametrize("arm_name", HISTORY)
@pytest.mark.parametrize("layer", [0, 1, 5])
def test_a_step_is_the_branch_plus_a_mean_of_the_last_states(connection, arm_name, layer):
    module, x = build(connection(arm_name), layer, 5).double(), streams(4)
    known = min(layer + 1, 4)
    assert module.theta.shape == (known,)
    with torch.no_grad():
        module.theta.copy_(torch.linspace(0.1, 0.4, known))
    out, (_, _, h_res), _ = module(x, torch.sin)
    weights = h_res[0, :, 0]
    assert weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert (weights >= 0).all()
    assert weights[known:].tolist() == [0] * (4 - known)
    torch.testing.assert_close(out[:, :, 0], x[:, :, 0].sin() + torch.einsum("k,btkc->btc", weights, x))
    torch.testing.assert_close(out[:, :, 1:], x[:, :, :-1])


def test_a_detached_history_has_a_skip_forward_and_none_backward(connection):
    gradients = []
    for arm in ("history", "history_detached"):
        x = streams(4).requires_grad_()
        out = build(connection(arm), 3, 5).double()(x, lambda h: 0 * h).streams
        out[:, :, 0].sum().backward()
        gradients.append(x.grad.abs().amax((0, 1, 3)))
    assert gradients[0].min() > 0
    assert gradients[1].max() == 0


def test_its_gain_is_that_of_the_companion_matrices(connection):
    modules = [build(connection("history_simplex"), layer, 5).double() for layer in range(6)]
    h_res = torch.stack([module.companion().detach()[None] for module in modules])
    rows = gain_rows(h_res)
    assert all(row["composite_forward"] == pytest.approx(1) for row in rows)
    assert rows[3]["single_backward"] == pytest.approx(0.85 + 1)
    assert 1 < rows[0]["composite_backward"] <= 4
    cut = gain_rows(h_res, detached=True)
    assert {row["composite_backward"] for row in cut} == {row["single_backward"] for row in cut} == {0}
    assert [row["composite_forward"] for row in cut] == [row["composite_forward"] for row in rows]


def test_the_projection_is_the_nearest_point_of_the_simplex():
    grid = torch.tensor([p for p in product(range(21), repeat=3) if sum(p) == 20], dtype=torch.float64) / 20
    for seed in range(20):
        point = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        nearest = project_to_simplex(point)
        assert nearest.sum().item() == pytest.approx(1, abs=1e-12)
        assert nearest.min() >= 0
        assert (nearest - point).norm() <= (grid - point).norm(dim=1).min() + 1e-12
    inside = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    torch.testing.assert_close(project_to_simplex(inside), inside)
    vertex = torch.tensor([-10.0, 0.0, -10.0])  # where no gradient is left
    assert project_to_simplex(vertex).tolist() == [0, 1, 0]
    assert torch.autograd.gradcheck(project_to_simplex, (inside.requires_grad_(),))


def test_the_projection_of_points_far_away_and_of_none():
    """float32 has no 1 beside 1e9; a NaN is passed on, so that the run is seen to diverge."""
    for far in (2.0**24, -1e9, 1e30):
        point = torch.tensor([far, far, -3 * abs(far)])
        assert project_to_simplex(point).tolist() == [0.5, 0.5, 0.0]
        assert project_to_simplex(point.double() + torch.tensor([0.25, 0.0, 0.0])).tolist() == (
            [0.625, 0.375, 0.0] if abs(far) < 1e15 else [0.5, 0.5, 0.0]
        )
    for none in (math.nan, math.inf):
        assert project_to_simplex(torch.tensor([0.5, none, 0.1])).isnan().any()


def test_the_projection_in_float32_is_that_of_cumsum_to_the_last_bit():
    """No GPU has a deterministic cumsum; recorded runs were made with a CPU's, which adds in float64."""
    generator = torch.Generator().manual_seed(0)
    for known in (1, 2, 4, 8) * 100:
        point = torch.full((known,), 0.05)
        point[0] = 0.85
        point += 0.1 * torch.randn(known, generator=generator)
        ordered = point.sort(descending=True).values
        excess = (ordered.cumsum(0) - 1) / torch.arange(1, known + 1)
        last = int((ordered > excess).sum()) - 1
        assert torch.equal(project_to_simplex(point), (point - excess[last]).clamp_min(0))


def test_the_clamp_keeps_a_share_on_the_newest(connection):
    module = build(connection("history", mixing={"kind": "softmax", "clamp": 0.1, "start": [0.0, 0.0]}), 3, 5)
    assert module.companion()[0].tolist() == pytest.approx([0.9 / 4 + 0.1, *[0.9 / 4] * 3])


@pytest.mark.parametrize(
    ("kind", "start", "expected"),
    [("softmax", [0.0, math.log(16)], [4 / 7, *[1 / 7] * 3]), ("simplex", [0.2, 1.4], [0.7, *[0.1] * 3])],
)
def test_scores_are_divided_by_the_temperature(connection, kind, start, expected):
    module = build(connection("history", mixing={"kind": kind, "temperature": 2.0, "start": start}), 3, 5)
    assert module.companion()[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_gumbel_noise_is_the_steps_own_and_leaves_the_masks_alone(connection):
    mixing = {"kind": "softmax", "gumbel": True, "start": [0.0, 0.0]}
    module, other = (build(connection("history", mixing=mixing), layer, 5) for layer in (3, 4))
    torch.manual_seed(3)
    assert not torch.equal(module.companion(), module.companion())  # a loop of one's own seeds once
    module.seeded_each_step = other.seeded_each_step = True
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again = module.companion(), module.companion()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other.companion())
    torch.manual_seed(4)
    assert not torch.equal(module.companion(), first)
    assert module.eval().companion()[0].tolist() == [0.25] * 4


def test_gumbel_noise_draws_the_states_as_often_as_their_weights_say(connection):
    """Which score is the largest is then a draw from the softmax (Gumbel, 1954), at any temperature."""
    start, drawn = [0.0, math.log(5)], []
    mixing = {"kind": "softmax", "gumbel": True, "temperature": 1e-3, "start": start}
    module = build(connection("history", mixing=mixing), 3, 5)
    torch.manual_seed(0)
    for _ in range(2000):
        weights = module.companion()[0]
        assert weights.sum().item() == pytest.approx(1)
        drawn.append(weights.max().item() > 0.99 and int(weights.argmax()))
    shares = [drawn.count(state) / len(drawn) for state in range(4)]
    assert shares == pytest.approx([5 / 8, *[1 / 8] * 3], abs=0.04)
