"""Each parametrisation of H_res: its documented start, its constraint, and what its settings may hold."""

import math

import pytest
import torch
from torch import Tensor

from drawn_numbers import drawn
from mhc_repro.connections import KINDS
from mhc_repro.connections.mixing import make_mixing
from mhc_repro.connections.mixing.base import a6_distance
from mhc_repro.errors import UserError
from mhc_repro.measurement.gains import gain_rows

SIZES = [1, 2, 4, 8]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layer", [0, 9])
@pytest.mark.parametrize("kind", ["free", "sinkhorn", "switched_marginals"])
def test_start_takes_off_and_on_the_diagonal(kind, n, layer):
    logits = make_mixing({"kind": kind, "start": [-0.5, 2.0]}, n).at(layer).initial().view(n, n)
    expected = torch.full((n, n), -0.5, dtype=torch.float64).fill_diagonal_(2.0)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_a_start_of_one_number_is_that_of_every_entry_or_the_size_of_what_is_drawn():
    fill = make_mixing({"kind": "transport", "start": 2.0}, 4)
    corner = fill.matrix(fill.initial()[:, None])[0, 0].item()
    assert corner == pytest.approx(1 / (1 + math.exp(-2)))
    theta = make_mixing({"kind": "block_orthostochastic", "start": 0.3}, 8).initial()
    assert theta.std().item() == pytest.approx(0.3, rel=0.2)


def test_a_random_h_res_is_that_of_its_seed():
    nothing = torch.zeros(0, 1, dtype=torch.float64)
    first, other = (make_mixing({"kind": "random", "seed": seed}, 4).matrix(nothing) for seed in (0, 3))
    assert (first - other).abs().max() > 0.1


def test_iterations_are_those_that_are_set():
    columns = [
        make_mixing({"kind": "sinkhorn", "iterations": times}, 4).matrix(3.0 * drawn(16, 5)).sum(0)
        for times in (1, 20)
    ]
    errors = [(column - 1).abs().max() for column in columns]
    assert errors[0] > 10 * errors[1]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"kind": "sinkhron"}, ["sinkhron", "connection.mixing.kind", "did you mean sinkhorn?"]),
        ({}, ["connection.mixing.kind", "sinkhorn"]),
        ({"kind": "sinkhorn", "iteration": 5}, ["iteration", "did you mean iterations?"]),
        ({"kind": "identity", "start": [0, 1]}, ["connection.mixing.start=[0,1]", "no fields"]),
        (
            {"kind": "sinkhorn", "iterations": 0},
            ["connection.mixing.iterations=0", "connection.mixing.iterations=20"],
        ),
        ({"kind": "sinkhorn", "iterations": "many"}, ["connection.mixing.iterations=many"]),
        ({"kind": "sinkhorn", "iterations": 2.5}, ["connection.mixing.iterations=2.5"]),
        ({"kind": "sinkhorn", "start": [1.0]}, ["connection.mixing.start"]),
        ({"kind": "sinkhorn", "start": 3}, ["connection.mixing.start"]),
        ({"kind": "free", "start": ["a", "b"]}, ["connection.mixing.start"]),
        ({"kind": "sinkhorn", "n": 3}, ["connection.mixing.n=3", "has start, iterations"]),
        ({"kind": "sinkhorn", "order": "rows"}, ["connection.mixing.order=columns_first"]),
        ({"kind": "sinkhorn", "gradient": "exact"}, ["connection.mixing.gradient=unrolled"]),
        ({"kind": "sinkhorn", "temperature": 0.0}, ["connection.mixing.temperature=1"]),
        ({"kind": "sinkhorn", "temperature": 10**400}, ["must be finite", "connection.mixing.temperature=1"]),
        ({"kind": "switched_marginals", "first": -1}, ["connection.mixing.first=-1", "0 or more"]),
        ({"kind": "mean_permutations", "first": -1}, ["connection.mixing.first=-1", "0 or more"]),
        ({"kind": "random", "seed": -1}, ["connection.mixing.seed=-1", "connection.mixing.seed=0"]),
        ({"kind": "sinkhorn", "temperature": True}, ["connection.mixing.temperature=true"]),
        ({"kind": "sinkhorn", "eps": -1e-6}, ["connection.mixing.eps=-1e-06", "0 or more"]),
        (
            {"kind": "sinkhorn", "eps": 1e-6, "gradient": "implicit"},
            ["connection.mixing.eps=1e-06", "0 with connection.mixing.gradient=implicit"],
        ),
        ({"kind": "identity_mix", "share": 1.0}, ["connection.mixing.share=0.01"]),
        ({"kind": "block_orthostochastic", "start": 0.0}, ["connection.mixing.start=0.01"]),
        ({"kind": "block_orthostochastic", "s": 0}, ["connection.mixing.s=2"]),
        ({"kind": "orthogonal", "steps": -1}, ["connection.mixing.steps=2"]),
        ({"kind": "orthogonal", "scale": 0.0}, ["connection.mixing.scale=0:", "connection.mixing.scale=1"]),
        ({"kind": "orthostochastic", "steps": 0}, ["connection.mixing.steps=20"]),
        ({"kind": "orthostochastic", "start": 1.0}, ["connection.mixing.start=null"]),
        ({"kind": "permutations", "start": [0.0, 1.0]}, ["connection.mixing.start=null"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_allowed(connection, settings, names):
    with pytest.raises(UserError) as raised:
        KINDS["streams"].check(connection("mhc", mixing=settings))
    message = str(raised.value)
    assert "\n" not in message
    for name in names:
        assert name in message


def test_truncated_families_have_no_bound():
    """Far from the start: two Cayley steps and five Newton-Schulz steps leave what they are meant to be."""
    for settings, scale in (
        ({"kind": "orthogonal", "scale": 0.1, "steps": 2}, 10),
        ({"kind": "orthostochastic", "steps": 5}, 1),
    ):
        mixing = make_mixing(settings, 4)
        h = mixing.matrix(scale * drawn(mixing.size, 2000)).permute(2, 0, 1)
        assert math.isfinite(gain_rows(h[None])[0]["single_forward"])
        assert (h.sum(-1).abs() - 1).amax() > 0.2


@pytest.mark.parametrize("power", [-100, -40, 40, 100])
def test_newton_schulz_is_blind_to_the_size_of_its_logits(power):
    """To the last bit, for a power of two: their squares are neither nothing nor beyond all numbers."""
    mixing = make_mixing({"kind": "orthostochastic"}, 4)
    numbers = drawn(16, 50).float()
    results = []
    for scale in (1.0, 2.0**power):
        leaf = (scale * numbers).requires_grad_()
        h = mixing.matrix(leaf)
        (h * h.detach().roll(1, 0)).sum().backward()
        results.append((h.detach(), scale * leaf.grad))
    (plain, gradient), (other, scaled) = results
    assert torch.equal(other, plain)
    assert torch.equal(scaled, gradient)


KINDS_THAT_SEARCH = ("orthogonal", "orthostochastic", "kronecker", "signed_sums")


@pytest.mark.parametrize(
    "settings", [*({"kind": kind} for kind in KINDS_THAT_SEARCH), {"kind": "orthogonal", "scale": 0.1}]
)
def test_a_start_is_as_near_as_a6_or_refused(settings):
    for n in (4, 64, 128):
        mixing = make_mixing(settings, n)
        if (settings["kind"], n) == ("orthogonal", 128):
            with pytest.raises(UserError, match=r"connection\.n=128: .* connection\.mixing\.start="):
                mixing.initial()
            continue
        h = mixing.matrix(mixing.initial()[:, None])[..., 0]
        assert (h - torch.eye(n)).norm().item() == pytest.approx(a6_distance(n), rel=1e-9)


def test_newton_schulz_converges_with_its_steps():
    numbers, errors = drawn(16, 500), []
    for steps in (5, 10, 20):
        h = make_mixing({"kind": "orthostochastic", "steps": steps}, 4).matrix(numbers)
        errors.append((h.sum(1) - 1).abs().amax(0).median().item())
    assert errors == pytest.approx([0.026, 0.002, 1e-5], rel=0.5)


def test_two_cayley_steps_approach_the_exact_transform_near_the_identity():
    numbers = 0.1 * drawn(6, 10)
    exact, *rest = (
        make_mixing({"kind": "orthogonal", "scale": 0.1, "steps": steps}, 4).matrix(numbers)
        for steps in (0, 2, 4)
    )
    first, second = ((each - exact).abs().max().item() for each in rest)
    assert second < first / 100 < 1e-7


@pytest.mark.parametrize("size", [1e8, 1e15, 3e38, math.inf])
def test_cayley_turns_by_a_half_where_float32_has_no_inverse(size):
    signs = (
        drawn(6, 200, dtype=torch.float32).sign() * torch.tensor([1, 1, 0, 0, 1, 1])[:, None]
    )  # some singular
    for n, numbers in ((3, signs[:3]), (4, signs)):
        numbers = (numbers * size).nan_to_num(0.0, math.inf, -math.inf).float().requires_grad_()
        h = make_mixing({"kind": "orthogonal"}, n).matrix(numbers).permute(2, 0, 1)
        assert (h @ h.mT - torch.eye(n)).abs().max() < 1e-2
        h.square().sum().backward()
        assert numbers.grad.isfinite().all()
    half = make_mixing({"kind": "orthogonal"}, 2).matrix(torch.tensor([[size]]))[..., 0]
    assert (half + torch.eye(2)).abs().max() < 2e-4


def test_permutations_kronecker_and_fill_reach_what_they_claim():
    """Any doubly stochastic matrix for TBP; a corner for mHC-lite; products of swaps for KromHC."""
    nothing = torch.zeros(0, 1, dtype=torch.float64)
    target = make_mixing({"kind": "random", "seed": 3}, 4).matrix(nothing)[..., 0]
    fill = make_mixing({"kind": "transport"}, 4)
    numbers = torch.zeros(9, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (fill.matrix(numbers)[..., 0] - target).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert loss().item() < 1e-8

    corner = torch.full((24, 1), -100.0)
    corner[7] = 100  # the eighth permutation in lexicographic order: (1, 0, 3, 2)
    h = make_mixing({"kind": "permutations"}, 4).matrix(corner)[..., 0]
    assert torch.equal(h, torch.eye(4)[[1, 0, 3, 2]])

    keep, swap = [100.0, 0.0], [0.0, 100.0]
    h = make_mixing({"kind": "kronecker"}, 4).matrix(torch.tensor([*swap, *keep])[:, None])[..., 0]
    torch.testing.assert_close(h, torch.eye(4)[[2, 3, 0, 1]])  # the first factor is the most significant bit


def test_go_mhc_is_its_formula_typed_in():
    numbers = 0.7 * drawn(28, 1)
    theta = torch.zeros(8, 8, dtype=torch.float64)
    theta[torch.triu_indices(8, 8, 1).unbind()] = numbers[:, 0]
    a, eye = theta - theta.T, torch.eye(8, dtype=torch.float64)
    q = (eye - a) @ torch.linalg.inv(eye + a)
    expected = [
        [(q[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] ** 2).sum().item() / 2 for j in range(4)] for i in range(4)
    ]
    h = make_mixing({"kind": "block_orthostochastic", "s": 2}, 4).matrix(numbers)[..., 0]
    torch.testing.assert_close(h, torch.tensor(expected, dtype=torch.float64))


def test_rows_first_is_columns_first_of_the_transpose():
    numbers = 2.0 * drawn(16, 5)
    by_columns = make_mixing({"kind": "sinkhorn"}, 4).matrix(numbers)
    turned = numbers.view(4, 4, 5).transpose(0, 1).reshape(16, 5)
    by_rows = make_mixing({"kind": "sinkhorn", "order": "rows_first"}, 4).matrix(turned)
    torch.testing.assert_close(by_rows, by_columns.transpose(0, 1))
    assert (by_rows.sum(0) - 1).abs().max() < 1e-14


def test_the_implicit_gradient_is_that_of_many_iterations():
    weights, gradients = drawn(16, 6, seed=2), []
    for settings in ({"iterations": 3000}, {"iterations": 300, "gradient": "implicit"}):
        numbers = drawn(16, 6).requires_grad_()
        mixing = make_mixing({"kind": "sinkhorn"} | settings, 4)
        (mixing.matrix(numbers).flatten(0, 1) * weights).sum().backward()
        gradients.append(numbers.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-6)
