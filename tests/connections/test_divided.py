"""H_res over its spectral norm, and over its signed row sums: against LAPACK, finite differences and the pole."""

import math

import pytest
import torch
from torch import Tensor

from drawn_numbers import drawn
from mhc_repro.connections.mixing import make_mixing
from mhc_repro.connections.mixing.divided import spectral_norm

SIZES = [1, 2, 3, 4, 8]
DIGITS = {torch.float64: 1e-14, torch.float32: 4e-7}  # among near values LAPACK is off by 7e-15


def with_values(values: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Make matrices (n, n, N) of singular values (N, n); also return their singular vectors u, v (N, n, n)."""
    tokens, n = values.shape
    u, v = (torch.linalg.qr(drawn(n, n, tokens, seed=seed + side).permute(2, 0, 1))[0] for side in (0, 1))
    return (u @ values.diag_embed() @ v.mT).permute(1, 2, 0), u, v


def largest(matrices: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrices.permute(2, 0, 1).double())[:, 0]


def divided(kind: str, matrices: Tensor) -> Tensor:
    return make_mixing({"kind": kind}, len(matrices)).matrix(matrices.flatten(0, 1))


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e-8, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", DIGITS)
@pytest.mark.parametrize("n", SIZES)
def test_the_norm_is_lapacks_whatever_the_size_of_the_numbers(n, dtype, scale):
    matrices = (scale * drawn(n, n, 2000)).to(dtype)
    torch.testing.assert_close(
        spectral_norm(matrices).double(), largest(matrices), rtol=DIGITS[dtype], atol=0
    )
    norms = largest(divided("spectral", matrices))
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=DIGITS[dtype], atol=0)


@pytest.mark.parametrize("dtype", DIGITS)
def test_the_norm_is_exact_however_near_the_other_values_lie(dtype):
    """For any count of power iterations some gap is the worst; here none may show."""
    gaps = 0.5 ** torch.arange(1, 55, dtype=torch.float64).repeat_interleave(100)
    values = torch.stack([torch.ones_like(gaps), 1 - gaps, 1 - gaps, 0 * gaps], dim=1)
    matrices = with_values(values)[0].to(dtype)
    torch.testing.assert_close(
        spectral_norm(matrices).double(), largest(matrices), rtol=DIGITS[dtype], atol=0
    )


@pytest.mark.parametrize("dtype", DIGITS)
@pytest.mark.parametrize(
    "diagonal", [[1, 1, 1, 1], [3, 3, 0, 0], [2, 2, 2, 1], [7, 0, 0, 0], [1, 1e-4, 1e-8, 0]]
)
def test_values_that_share_the_top_share_the_gradient(diagonal, dtype):
    matrix = torch.tensor(diagonal, dtype=dtype).diag()[..., None].requires_grad_()
    norm = spectral_norm(matrix)
    norm.sum().backward()
    top = torch.tensor([value == max(diagonal) for value in diagonal], dtype=dtype)
    assert norm.item() == pytest.approx(max(diagonal), rel=DIGITS[dtype])
    torch.testing.assert_close(matrix.grad[..., 0], (top / top.sum()).diag(), rtol=0, atol=DIGITS[dtype])


@pytest.mark.parametrize(
    ("dtype", "gap", "digits"), [(torch.float64, 1e-6, 1e-9), (torch.float32, 1e-2, 1e-4)]
)
def test_the_gradient_of_a_simple_top_is_that_of_its_singular_vectors(dtype, gap, digits):
    """As near to rounding as the gap allows: by 1 / gap times it."""
    values = torch.tensor([1.0, 1.0 - gap, 0.9, 0.1], dtype=torch.float64).expand(300, 4)
    made, u, v = with_values(values)
    matrices = made.to(dtype).requires_grad_()
    spectral_norm(matrices).sum().backward()
    expected = (u[:, :, :1] @ v[:, :, :1].mT).permute(1, 2, 0).to(dtype)
    torch.testing.assert_close(matrices.grad, expected, rtol=0, atol=digits)


@pytest.mark.parametrize("kind", ["spectral", "signed_rows"])
@pytest.mark.parametrize("scale", [1.0, 1e8, 1e-8])
@pytest.mark.parametrize("n", [2, 4])
def test_gradients_are_those_of_finite_differences(kind, n, scale):
    matrices = (scale * (drawn(n, n, 3, seed=5) + 2)).requires_grad_()
    of_units = lambda x: divided(kind, x) * scale  # noqa: E731  gradients of order 1
    assert torch.autograd.gradcheck(of_units, (matrices,), eps=1e-6 * scale, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["spectral", "signed_rows"])
def test_a_common_factor_goes_and_the_sign_of_entries_does_as_documented(kind):
    matrices = drawn(4, 4, 50)
    once = divided(kind, matrices)
    torch.testing.assert_close(divided(kind, 1024 * matrices), once, rtol=0, atol=0)
    # A row over its sum has lost its own sign; a matrix over its norm has not.
    torch.testing.assert_close(
        divided(kind, -matrices), once if kind == "signed_rows" else -once, rtol=0, atol=0
    )


def test_rows_over_their_signed_sums_are_those_rows():
    matrices = torch.tensor([[3.0, -1.0], [-2.0, 1.0]], dtype=torch.float64)[..., None]
    expected = torch.tensor([[1.5, -0.5], [2.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(divided("signed_rows", matrices)[..., 0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", DIGITS)
def test_at_the_pole_of_signed_rows_signs_are_kept_and_what_can_be_written_is_finite(dtype):
    tiny = torch.finfo(dtype).tiny
    sums = torch.tensor([tiny, -tiny, 0.0, -0.0, 1e-20, -1e-20], dtype=dtype)
    rows = torch.stack([sums, torch.zeros_like(sums)])
    found = divided("signed_rows", torch.stack([rows, rows]))[0]
    assert found[0].tolist() == pytest.approx([1, 1, 0, 0, 1, 1])
    assert found[1].tolist() == [0] * 6
    # 1 - 1 is exactly 0: as large as can be written, the larger entry's sign on it; 8 - 8 cannot be
    for size, reachable in ((1.0, True), (8.0, False)):
        row = torch.tensor([[size], [-size]], dtype=dtype)
        first, second = divided("signed_rows", torch.stack([row, row]))[0, :, 0].tolist()
        assert math.isfinite(first) == math.isfinite(second) == reachable
        assert first == -second > 1 / tiny / 2


def test_a_matrix_of_zeros_has_no_direction():
    assert divided("spectral", torch.zeros(4, 4, 1)).isnan().all()
    others = torch.cat([torch.zeros(4, 4, 1), torch.eye(4)[..., None]], dim=2)
    torch.testing.assert_close(divided("spectral", others)[..., 1], torch.eye(4))  # its token alone


@pytest.mark.parametrize("kind", ["spectral", "signed_rows"])
def test_compiled_code_makes_the_same_matrix_and_gradient(kind):
    mixing, weights, results = make_mixing({"kind": kind}, 4), drawn(4, 4, 64, seed=9).float(), []
    for make in (lambda f: f, lambda f: torch.compile(f, fullgraph=True, dynamic=False)):
        torch._dynamo.reset()
        matrices = (drawn(4, 4, 64, seed=2) + 1).float().requires_grad_()
        found = make(lambda x: mixing.matrix(x.flatten(0, 1)))(matrices)
        (found * weights).sum().backward()
        results.append((found, matrices.grad))
    torch.testing.assert_close(results[1], results[0], rtol=2e-5, atol=2e-5)
