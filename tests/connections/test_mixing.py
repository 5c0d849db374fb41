"""Each parametrisation of H_res: its documented start, its constraint, and what its settings may hold."""

import pytest
import torch

from mhc_repro.connections import check
from mhc_repro.connections.mixing import make_mixing
from mhc_repro.errors import UserError

SIZES = [1, 2, 4, 8]


def at_start(mixing) -> torch.Tensor:
    return mixing.matrix(mixing.initial()[:, None].expand(-1, 3))


@pytest.mark.parametrize("n", SIZES)
def test_identity_is_the_identity_and_learns_nothing(n):
    mixing = make_mixing({"kind": "identity"}, n)
    assert mixing.size == 0
    expected = torch.eye(n, dtype=torch.float64)[..., None].expand(n, n, 3)
    torch.testing.assert_close(
        mixing.matrix(torch.zeros(0, 3, dtype=torch.float64)), expected, rtol=0, atol=0
    )


@pytest.mark.parametrize("n", SIZES)
def test_free_starts_exactly_at_the_identity(n):
    mixing = make_mixing({"kind": "free"}, n)
    assert mixing.size == n * n
    expected = torch.eye(n, dtype=torch.float64)[..., None].expand(n, n, 3)
    torch.testing.assert_close(at_start(mixing), expected, rtol=0, atol=0)


def test_sinkhorn_starts_as_in_app_a6():
    start = at_start(make_mixing({"kind": "sinkhorn"}, 4))[..., 0]
    diagonal = torch.eye(4, dtype=torch.bool)
    exact = torch.tensor([3.0, -3.0], dtype=torch.float64).exp()
    on, off = exact / (exact[0] + 3 * exact[1])
    assert on.item() == pytest.approx(0.9926, abs=5e-5)
    assert off.item() == pytest.approx(0.00246, abs=5e-6)
    torch.testing.assert_close(start[diagonal], on.expand(4), rtol=1e-14, atol=0)
    torch.testing.assert_close(start[~diagonal], off.expand(12), rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", ["free", "sinkhorn"])
def test_numbers_fill_the_matrix_row_by_row(kind):
    numbers = torch.arange(9.0, dtype=torch.float64)[:, None] / 3
    matrix = make_mixing({"kind": kind}, 3).matrix(numbers)[..., 0]
    if kind == "free":
        torch.testing.assert_close(matrix, numbers.view(3, 3), rtol=0, atol=0)
    else:  # rank one: rows and columns of the logits only shift, so every entry is 1/3
        torch.testing.assert_close(matrix, torch.full_like(matrix, 1 / 3), rtol=1e-12, atol=0)
        tilted = numbers.clone()
        tilted[1] += 2  # row 0, column 1
        row, column = make_mixing({"kind": kind}, 3).matrix(tilted)[..., 0].flatten().argmax().item() // 3, 1
        assert (row, column) == (0, 1)
        assert make_mixing({"kind": kind}, 3).matrix(tilted)[0, 1, 0] > 0.5


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["free", "sinkhorn"])
def test_start_takes_off_and_on_the_diagonal(kind, n):
    logits = make_mixing({"kind": kind, "start": [-0.5, 2.0]}, n).initial().view(n, n)
    expected = torch.full((n, n), -0.5, dtype=torch.float64).fill_diagonal_(2.0)
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)


def test_iterations_are_those_that_are_set():
    columns = [
        make_mixing({"kind": "sinkhorn", "iterations": times}, 4)
        .matrix(torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3)
        .sum(0)
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
        ({"kind": "identity", "start": [0, 1]}, ["start", "none"]),
        (
            {"kind": "sinkhorn", "iterations": 0},
            ["connection.mixing.iterations=0", "connection.mixing.iterations=20"],
        ),
        ({"kind": "sinkhorn", "iterations": "many"}, ["connection.mixing.iterations=many"]),
        ({"kind": "sinkhorn", "iterations": 2.5}, ["connection.mixing.iterations=2.5"]),
        ({"kind": "sinkhorn", "start": [1.0]}, ["connection.mixing.start"]),
        ({"kind": "sinkhorn", "start": 3}, ["connection.mixing.start"]),
        ({"kind": "free", "start": ["a", "b"]}, ["connection.mixing.start"]),
        ({"kind": "sinkhorn", "n": 3}, ["n"]),
    ],
)
def test_a_wrong_setting_is_one_line_that_says_what_is_allowed(connection, settings, names):
    with pytest.raises(UserError) as raised:
        check(connection("mhc", mixing=settings))
    message = str(raised.value)
    assert "\n" not in message
    for name in names:
        assert name in message
