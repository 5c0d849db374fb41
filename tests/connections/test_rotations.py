"""oHC and s2HC against their own definitions: quaternions multiplied out, sums and singular values."""

import math

import pytest
import torch

from drawn_numbers import drawn
from mhc_repro.connections.mixing import make_mixing
from mhc_repro.connections.mixing.rotations import helmert


def times(p: list[float], q: list[float]) -> list[float]:
    """Hamilton's product: i j = k, j k = i, k i = j."""
    a, b, c, d = p
    e, f, g, h = q
    return [
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    ]


def test_ohc_is_x_to_q_x_conj_r():
    numbers = drawn(8, 20)
    h = make_mixing({"kind": "quaternions"}, 4).matrix(numbers)
    x = [0.3, -1.2, 0.7, 2.0]
    for token in range(20):
        v = numbers[:, token].tolist()
        q, r = [1 + v[0], *v[1:4]], [1 + v[4], *v[5:8]]
        q, r = ([each / sum(e * e for e in p) ** 0.5 for each in p] for p in (q, r))
        expected = times(times(q, x), [r[0], -r[1], -r[2], -r[3]])
        torch.testing.assert_close(
            h[..., token] @ torch.tensor(x, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
        )
    first = h.permute(2, 0, 1)
    torch.testing.assert_close(first @ first.mT, torch.eye(4, dtype=torch.float64).expand_as(first))
    torch.testing.assert_close(torch.linalg.det(first), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ohc_starts_at_i_to_the_last_bit_and_can_leave_it_every_way(dtype):
    mixing = make_mixing({"kind": "quaternions"}, 4)
    start = mixing.initial().to(dtype)
    assert torch.equal(mixing.matrix(start[:, None])[..., 0], torch.eye(4, dtype=dtype))
    jacobian = torch.autograd.functional.jacobian(
        lambda v: mixing.matrix(v[:, None])[..., 0].flatten(), start
    )
    assert torch.linalg.matrix_rank(jacobian) == 6  # the dimension of SO(4)


def test_its_gate_stays_where_it_is(tiny):
    own = dict(tiny("ohc").connection_parameters())
    assert "connections.1.mix.alpha" not in own
    assert "connections.1.read.alpha" in own
    assert tiny("ohc").connections[1].mix.alpha.item() == pytest.approx(0.01)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_s2hc_has_signed_entries_sums_of_one_and_tanh_s_for_singular_values(n):
    mixing = make_mixing({"kind": "signed_sums"}, n)
    numbers = 2 * drawn(mixing.size, 20)
    h = mixing.matrix(numbers)
    ones = torch.ones(n, 20, dtype=torch.float64)
    torch.testing.assert_close(h.sum(0), ones)
    torch.testing.assert_close(h.sum(1), ones)
    assert n < 3 or h.min() < -0.1  # two streams leave no sign to choose
    values = torch.linalg.svdvals(h.permute(2, 0, 1))
    expected = torch.cat([numbers[mixing.size - n + 1 :].tanh().abs(), ones[:1]])
    ordered = expected.sort(0, descending=True).values.T
    torch.testing.assert_close(values, ordered, rtol=1e-9, atol=1e-9)


def test_s2hc_starts_where_its_paper_says():
    mixing = make_mixing({"kind": "signed_sums", "start": 4.0}, 4)
    h = mixing.matrix(mixing.initial()[:, None])[..., 0]
    kept = torch.eye(4, dtype=torch.float64) - 0.25
    torch.testing.assert_close(h, 0.25 + torch.tensor(4.0, dtype=torch.float64).tanh() * kept)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.1])
def test_s2hc_turns_by_no_more_than_its_scale(scale):
    """Of three streams U turns a plane, by twice the arc tangent of `scale` where its number is large."""
    mixing = make_mixing({"kind": "signed_sums", "scale": scale}, 3)
    numbers = torch.tensor([50.0, 0.0, 50.0, 50.0], dtype=torch.float64)[:, None]
    basis = helmert(3)
    turned = basis.mT @ mixing.matrix(numbers)[..., 0] @ basis
    angle = 2 * math.atan(scale)
    expected = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    torch.testing.assert_close(turned, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("n", [2, 4, 5])
def test_helmert_spans_what_sums_to_zero(n):
    basis = helmert(n)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(n - 1, dtype=torch.float64))
    torch.testing.assert_close(basis.sum(0), torch.zeros(n - 1, dtype=torch.float64))
