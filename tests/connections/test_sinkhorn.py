"""Sinkhorn against Eq. 9 typed in, POT, its slow twin and finite differences, and at the extremes."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drawn_numbers import drawn
from mhc_repro.connections.sinkhorn import sinkhorn

SIZES = [1, 2, 3, 4, 8]


def logits(n: int, *tokens: int, scale: float = 2.0, seed: int = 0) -> torch.Tensor:
    return scale * drawn(n, n, *tokens, seed=seed)


def sinkhorn_reference(logits: torch.Tensor, iterations: int = 20) -> torch.Tensor:
    """Compute `sinkhorn` slowly, in the log domain, differentiated by autograd."""
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0, keepdim=True)
        logits = logits - logits.logsumexp(1, keepdim=True)
    return logits.exp()


def typed_in(matrix: list[list[float]], iterations: int) -> list[list[float]]:
    """M_0 = exp(logits), M_t = T_r(T_c(M_(t-1))): columns first, rows last."""
    n = len(matrix)
    m = [[math.exp(value) for value in row] for row in matrix]
    for _ in range(iterations):
        columns = [sum(m[i][j] for i in range(n)) for j in range(n)]
        m = [[m[i][j] / columns[j] for j in range(n)] for i in range(n)]
        rows = [sum(m[i]) for i in range(n)]
        m = [[m[i][j] / rows[i] for j in range(n)] for i in range(n)]
    return m


@pytest.mark.parametrize("iterations", [1, 2, 20])
@pytest.mark.parametrize("n", SIZES)
def test_it_is_eq_9_of_every_token_columns_first_and_rows_last(n, iterations):
    given_logits = logits(n, 2, 3)
    expected = torch.empty_like(given_logits)
    for batch, token in np.ndindex(2, 3):
        matrix = typed_in(given_logits[:, :, batch, token].tolist(), iterations)
        expected[:, :, batch, token] = torch.tensor(matrix, dtype=torch.float64)
    for function in (sinkhorn, sinkhorn_reference):
        torch.testing.assert_close(function(given_logits, iterations), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n", SIZES)
def test_rows_are_exact_after_any_number_of_iterations_and_columns_converge(n):
    errors = []
    for iterations in (1, 5, 20, 400):
        matrix = sinkhorn(logits(n, 50, scale=1.0), iterations)
        assert (matrix > 0).all()
        assert (matrix.sum(1) - 1).abs().max() < 1e-14
        errors.append((matrix.sum(0) - 1).abs().max().item())
    if n > 1:
        assert errors[0] > 1e-2
        assert errors[1] < errors[0] / 2
    assert errors[-1] < 1e-10


@pytest.mark.parametrize("n", SIZES)
def test_the_limit_is_the_optimal_transport_plan(n):
    given_logits = logits(n, scale=1.0)
    uniform = np.full(n, 1 / n)
    plan = ot.sinkhorn(uniform, uniform, -given_logits.numpy(), reg=1.0, numItermax=5000, stopThr=1e-15)
    np.testing.assert_allclose(sinkhorn(given_logits, 1000), n * plan, rtol=1e-9)


@pytest.mark.parametrize("iterations", [2, 20])
@pytest.mark.parametrize("n", SIZES)
def test_fast_and_reference_agree_forward_and_backward(n, iterations):
    weights = logits(n, 3, 4, seed=1)
    results = []
    for function in (sinkhorn, sinkhorn_reference):
        leaf = logits(n, 3, 4, scale=3.0).requires_grad_()
        matrix = function(leaf, iterations)
        (matrix.pow(2) * weights).sum().backward()
        results.append((matrix.detach(), leaf.grad))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_gradients_are_those_of_finite_differences(eps):
    leaf = logits(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sinkhorn(x, 3, eps=eps), leaf)


def test_gradient_goes_through_the_unrolled_iterations_not_through_the_limit():
    """Near I the Jacobian converges like sigma_2^(2 iterations): at A.6 they differ by half, at 2 I not at all."""
    differences = []
    for start in (6 * torch.eye(4, dtype=torch.float64) - 3, 2 * torch.eye(4, dtype=torch.float64)):
        paper, limit = (
            torch.autograd.functional.jacobian(lambda x, times=times: sinkhorn(x, times), start)
            for times in (20, 500)
        )
        differences.append(((paper - limit).norm() / limit.norm()).item())
    assert differences[0] > 0.3
    assert differences[1] < 1e-7


def test_strides_do_not_matter():
    contiguous = logits(4, 6)
    strided = contiguous.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided.is_contiguous()
    torch.testing.assert_close(sinkhorn(strided), sinkhorn(contiguous), rtol=1e-13, atol=0)


# In float32 exp(-90) is subnormal and exp(-104) is 0.
EDGES = [-1e4, -200.0, -104.0, -90.0, 0.0, 90.0, 200.0, 1e4]


def extreme(n: int) -> st.SearchStrategy[np.ndarray]:
    numbers = st.one_of(st.floats(-1e4, 1e4, width=32), st.sampled_from(EDGES))
    return arrays(np.float32, (n, n, 4), elements=numbers)


@given(st.sampled_from([1, 2, 4]).flatmap(extreme))
@example(np.float32([[[1.0], [0.0]], [[-200.0], [-200.0]]]))  # what counts is how the logits of a row differ
def test_float32_is_finite_and_right_up_to_logits_of_ten_thousand(array):
    leaves = torch.from_numpy(array).requires_grad_(), torch.from_numpy(array).double().requires_grad_()
    fast, slow = sinkhorn(leaves[0]), sinkhorn_reference(leaves[1])
    weights = torch.arange(fast.numel()).view_as(fast) % 7 - 3
    for matrix in (fast, slow):
        (matrix * weights).sum().backward()
    assert fast.isfinite().all()
    assert leaves[0].grad.isfinite().all()
    assert (fast.sum(1) - 1).abs().max() < 1e-5
    torch.testing.assert_close(fast.double(), slow, rtol=0, atol=1e-3)
    torch.testing.assert_close(leaves[0].grad.double(), leaves[1].grad, rtol=0, atol=1e-2)
