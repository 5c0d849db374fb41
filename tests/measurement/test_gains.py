"""Amax gains on matrices small enough to multiply by hand, and where wrong definitions give other numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mhc_repro.measurement.gains import gain_rows
from mhc_repro.schema import GAINS


def matrices(*rows: list[list[float]]) -> torch.Tensor:
    """One matrix a sub-layer, the same for its one token: (L, 1, n, n)."""
    return torch.tensor(rows, dtype=torch.float64)[:, None]


def gains(h_res: torch.Tensor, name: str) -> list[float]:
    return [row[name] for row in gain_rows(h_res)]


def check(h_res: torch.Tensor, *expected: list[float]) -> None:
    """Compare with the gains of single matrices, forward and backward, and of products, forward and backward."""
    for name, of_layers in zip(GAINS, expected, strict=True):
        assert gains(h_res, name) == pytest.approx(of_layers, rel=1e-12), name


A = [[1.0, 2.0], [0.0, 1.0]]  # row sums 3, 1; column sums 1, 3
B = [[1.0, 0.0], [4.0, 1.0]]  # row sums 1, 5; column sums 5, 1
C = [[2.0, 0.0], [0.0, 1.0]]  # row sums 2, 1; column sums 2, 1
SQUARE = matrices([[1.0, 2.0], [3.0, 4.0]])  # row sums 3, 7; column sums 4, 6
TO_ONE, TO_OTHER = matrices([[1.0, 1.0], [0.0, 0.0]]), matrices([[0.0, 0.0], [1.0, 1.0]])
SCALES = torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)[..., None, None]
BY_HAND = {
    # BA = [[1, 2], [4, 9]], CBA = [[2, 4], [4, 9]]; CB = [[2, 0], [4, 1]]
    "products that do not commute": (matrices(A, B, C), [3, 5, 2], [3, 5, 2], [3, 13, 13], [13, 6, 2]),
    "forward is rows, backward columns": (SQUARE, [7], [6], [7], [6]),
    "transposing swaps them": (SQUARE.mT, [6], [7], [6], [7]),
    "one sub-layer is its own composite": (matrices([[0.5, 2.0], [1.0, -1.0]]), [2.5], [1.5], [2.5], [1.5]),
    # rows sum to 0 and 1, columns to 1 and 0; sums of absolute values would be 2
    "sums are signed": (matrices([[1.0, -1.0], [0.0, 1.0]]), [1], [1], [1], [1]),
    "the sign of a sum does not count": (matrices([[-3.0, -4.0], [1.0, 1.0]]), [7], [3], [7], [3]),
    # one token has 2, 2 and another 0, 0: the average of products is 2, the product of averages 1
    "tokens are multiplied before they are averaged": (SCALES, [1, 1], [1, 1], [1, 2], [2, 1]),
    # one token sends all to stream 1, another all to stream 2: each has gain 2, their average 1
    "tokens are averaged before the maximum": (torch.cat([TO_ONE, TO_OTHER], dim=1), [1], [1], [1], [1]),
    "tokens of opposite sign cancel": (torch.cat([matrices(C), -matrices(C)], dim=1), [0], [0], [0], [0]),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case):
    check(*BY_HAND[case])


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_doubly_stochastic_extremes_have_gain_one(n):
    generator = torch.Generator().manual_seed(n)
    orders = torch.stack([torch.randperm(n, generator=generator) for _ in range(6)])
    permutations = torch.eye(n, dtype=torch.float64)[orders]
    uniform = torch.full((6, n, n), 1 / n, dtype=torch.float64)
    for h in (permutations, uniform):
        check(h[:, None], *[[1.0] * 6] * 4)


def test_a_residual_baseline_has_gain_exactly_one():
    h = torch.ones(16, 1024, 1, 1)
    assert all(gains(h, name) == [1.0] * 16 for name in GAINS)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1000))
def test_against_loops(layers, tokens, n, seed):
    h = torch.randn(layers, tokens, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def product(token: int, first: int, last: int) -> torch.Tensor:
        """H_last ... H_first of one token."""
        result = torch.eye(n, dtype=torch.float64)
        for layer in range(first, last + 1):
            result = h[layer, token] @ result
        return result

    def mean(first: int, last: int) -> torch.Tensor:
        return sum(product(token, first, last) for token in range(tokens)) / tokens

    def rows(m: torch.Tensor) -> float:
        return max(abs(sum(m[i, j].item() for j in range(n))) for i in range(n))

    check(
        h,
        [rows(mean(layer, layer)) for layer in range(layers)],
        [rows(mean(layer, layer).T) for layer in range(layers)],
        [rows(mean(0, layer)) for layer in range(layers)],
        [rows(mean(layer, layers - 1).T) for layer in range(layers)],
    )


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (3, 2, 4), (2, 3, 4, 5)])
def test_a_wrong_shape_is_refused_with_the_right_one(shape):
    with pytest.raises(ValueError, match=r"\(L, N, n, n\)") as raised:
        gain_rows(torch.zeros(shape))
    assert str(shape) in str(raised.value)


def test_the_second_singular_value_is_that_of_the_composite_and_missing_where_that_overflows():
    h = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1, 1)
    h[0, 0] = torch.diag(torch.tensor([5.0, 3.0, 2.0]))
    h[2, 0, 0, 0] = math.inf
    first, second, third = gains(h, "sigma2")
    assert (first, second) == pytest.approx((3, 3))
    assert math.isnan(third)
    assert gains(torch.ones(2, 1, 1, 1), "sigma2") == [0, 0]
