"""The maps against the papers' equations typed in as loops over tokens, streams and features.

The oracles are written from mHC (arXiv 2512.24880) Eq. 3, 5, 7, 8 and 9 alone, with Python floats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mhc_repro.connections import build
from one_connection import DIM, awake, branch, streams

SIZES = [1, 2, 4, 8]


class Result(NamedTuple):
    """What a connection did: h (T, C), X' (T, n, C), H_res (T, n, n)."""

    h: Tensor
    out: Tensor
    h_res: Tensor


def apply(module, x: Tensor) -> Result:
    seen: list[Tensor] = []

    def spy(h: Tensor) -> Tensor:
        seen.append(h)
        return branch(h)

    out, (_, _, h_res), _ = module(x, spy)
    return Result(seen[0].flatten(0, 1), out.flatten(0, 1), h_res.permute(2, 0, 1))


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def rms_norm(x: list[float]) -> list[float]:
    scale = math.sqrt(dot(x, x) / len(x) + 1e-20)
    return [value / scale for value in x]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def typed_in_hc(module, x: list[list[float]]) -> tuple[list[float], list[float], list[list[float]]]:
    """Eq. 5: H = alpha tanh(theta x~^T) + b, every stream normalised by itself."""
    n = len(x)
    normed = [rms_norm(row) for row in x]

    def number(part, i: int, j: int) -> float:
        dynamic = math.tanh(dot(part.phi[i].tolist(), normed[j]))
        return part.alpha.item() * dynamic + part.bias[i * n + j].item()

    h_pre, h_post = ([number(part, 0, j) for j in range(n)] for part in (module.read, module.write))
    return h_pre, h_post, [[number(module.mix, i, j) for j in range(n)] for i in range(n)]


def typed_in_mhc(module, x: list[list[float]]) -> tuple[list[float], list[float], list[list[float]]]:
    """Eq. 7-9: one RMSNorm over vec(X), H_pre = s(.), H_post = 2 s(.), H_res = SK(.) with 20 iterations."""
    n = len(x)
    vec = rms_norm([value for row in x for value in row])

    def tilde(part, row: int) -> float:
        return part.alpha.item() * dot(vec, part.phi[row].tolist()) + part.bias[row].item()

    h_pre = [sigmoid(tilde(module.read, j)) for j in range(n)]
    h_post = [2 * sigmoid(tilde(module.write, j)) for j in range(n)]
    if module.mix is None:
        return h_pre, h_post, [[float(i == j) for j in range(n)] for i in range(n)]
    m = [[math.exp(tilde(module.mix, i * n + j)) for j in range(n)] for i in range(n)]
    for _ in range(20):
        columns = [sum(m[i][j] for i in range(n)) for j in range(n)]
        m = [[m[i][j] / columns[j] for j in range(n)] for i in range(n)]
        m = [[value / sum(row) for value in row] for row in m]
    return h_pre, h_post, m


TYPED_IN: dict[str, Callable] = {"hc": typed_in_hc, "mhc": typed_in_mhc, "identity": typed_in_mhc}


@pytest.mark.parametrize("n", SIZES)
def test_maps_and_streams_are_those_of_the_equations(connection, streams_arm, n):
    module, x = awake(connection(streams_arm, n=n)), streams(n)
    result = apply(module, x)
    for token in range(x.shape[1]):
        rows = x[0, token].tolist()
        h_pre, h_post, h_res = TYPED_IN[streams_arm](module, rows)
        h = [sum(h_pre[j] * rows[j][c] for j in range(n)) for c in range(DIM)]
        y = branch(torch.tensor(h, dtype=torch.float64)).tolist()
        out = [
            [sum(h_res[i][j] * rows[j][c] for j in range(n)) + h_post[i] * y[c] for c in range(DIM)]
            for i in range(n)
        ]
        for name, expected in (("h_res", h_res), ("h", h), ("out", out)):
            wanted = torch.tensor(expected, dtype=torch.float64)
            torch.testing.assert_close(getattr(result, name)[token], wanted, rtol=1e-11, atol=1e-12)


def test_every_gradient_is_that_of_finite_differences(connection, streams_arm):
    module, x = awake(connection(streams_arm)), streams(4).requires_grad_()
    generator = torch.Generator().manual_seed(9)
    weights = [torch.randn(1, 3, 4, DIM, generator=generator, dtype=torch.float64) for _ in range(2)]
    on_maps = torch.randn(4, 4, 3, generator=generator, dtype=torch.float64)

    def loss() -> Tensor:
        out, (_, _, h_res), _ = module(x, branch)
        return (out * weights[0] + out.square() * weights[1]).sum() + (h_res * on_maps).sum()

    loss().backward()
    for name, leaf in [("streams", x), *module.named_parameters()]:
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            sides = []
            for step in (1e-5, -1e-5):
                leaf.add_(step * direction)
                sides.append(loss())
                leaf.sub_(step * direction)
        expected = (sides[0] - sides[1]) / 2e-5
        torch.testing.assert_close((leaf.grad * direction).sum(), expected, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("name", ["hc", "mhc"])
def test_in_hc_column_j_of_h_res_depends_on_stream_j_alone_and_in_mhc_all_on_every_one(connection, name):
    module, x = awake(connection(name)), streams(4)
    for j in range(4):
        moved = x.clone()
        moved[:, :, j] += torch.linspace(-1, 1, DIM, dtype=torch.float64)
        change = (apply(module, moved).h_res - apply(module, x).h_res).abs().amax(0)
        assert change[:, j].min() > (1e-4 if name == "hc" else 1e-6)
        others = change[:, [k for k in range(4) if k != j]]
        assert others.max() == 0 if name == "hc" else others.min() > 1e-6


def test_hc_normalises_each_stream_and_the_others_all_of_them_at_once(connection, streams_arm):
    module, x = awake(connection(streams_arm)), streams(4)
    factors = torch.tensor([0.1, 1.0, 3.0, 10.0], dtype=torch.float64)[:, None]
    before = maps_of(module, x)
    torch.testing.assert_close(maps_of(module, 7 * x), before, rtol=1e-10, atol=1e-12)
    same = torch.allclose(maps_of(module, factors * x), before, rtol=1e-10, atol=1e-12)
    assert same == (streams_arm == "hc")


def maps_of(module, x: Tensor) -> Tensor:
    """H_pre, H_post and H_res of every token in one tensor, read off what the connection does."""
    n = x.shape[2]
    seen = apply(module, x)
    inverse = torch.linalg.pinv(x.flatten(0, 1))  # distinct streams are independent rows where n <= dim
    h_pre = torch.einsum("tc,tcj->tj", seen.h, inverse)
    rest = seen.out - seen.h_res @ x.flatten(0, 1)
    h_post = rest[..., 1] / branch(seen.h)[:, None, 1]
    return torch.cat([h_pre, h_post, seen.h_res.reshape(-1, n * n)], dim=1)


@pytest.mark.parametrize("layer", range(6))
@pytest.mark.parametrize("n", [1, 2, 4])
def test_mhc_starts_as_in_app_a6_on_the_home_stream(connection, n, layer):
    maps = maps_of(build(connection("mhc", n=n), layer, DIM).double(), streams(n))
    h_pre, h_post = maps[:, :n], maps[:, n : 2 * n]
    expected = torch.full((n,), sigmoid(-3.0), dtype=torch.float64)
    expected[layer % n] = sigmoid(3.0)
    assert sigmoid(3.0) == pytest.approx(0.95, abs=5e-3)
    assert sigmoid(-3.0) == pytest.approx(0.047, abs=5e-4)
    torch.testing.assert_close(h_pre, expected.expand_as(h_pre), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(h_post, torch.ones_like(h_post), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", range(6))
@pytest.mark.parametrize("n", [1, 2, 4])
def test_hc_starts_as_a_pre_norm_residual_net(connection, n, layer):
    maps = maps_of(build(connection("hc", n=n), layer, DIM).double(), streams(n))
    eye = torch.eye(n, dtype=torch.float64)
    expected = torch.cat([eye[layer % n], torch.ones_like(eye[0]), eye.flatten()])
    torch.testing.assert_close(maps, expected.expand_as(maps), rtol=1e-10, atol=1e-12)
    exact = apply(build(connection("hc", n=n), layer, DIM), streams(n).float()).h_res
    assert torch.equal(exact, torch.eye(n).expand_as(exact))


def test_gates_start_at_a_hundredth_and_input_dependence_at_zero(connection, streams_arm):
    for name, parameter in build(connection(streams_arm), 0, DIM).named_parameters():
        if name.endswith("alpha"):
            assert parameter.item() == pytest.approx(0.01)
        if name.endswith("phi"):
            assert parameter.abs().max() == 0


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("name", "phi", "static", "alphas"),
    [
        ("mhc", lambda n, c: (n * n + 2 * n) * n * c, lambda n: n * n + 2 * n, 3),
        ("hc", lambda n, c: (n + 2) * c, lambda n: n * n + 2 * n, 3),
        ("identity", lambda n, c: 2 * n * n * c, lambda n: 2 * n, 2),
    ],
)
def test_parameter_counts(connection, n, name, phi, static, alphas):
    parameters = dict(build(connection(name, n=n), 0, 7).named_parameters())
    assert sum(p.numel() for key, p in parameters.items() if key.endswith("phi")) == phi(n, 7)
    assert sum(p.numel() for p in parameters.values()) == phi(n, 7) + static(n) + alphas


def test_with_one_stream_mhc_is_a_residual_net_with_gates(connection):
    module, x = awake(connection("mhc", n=1)), streams(1)
    h_pre, h_post, _ = typed_in_mhc(module, x[0, 0].tolist())
    result = apply(module, x)
    assert torch.equal(result.h_res, torch.ones_like(result.h_res))
    y = branch(h_pre[0] * x[0, 0, 0])
    torch.testing.assert_close(result.out[0, 0], x[0, 0, 0] + h_post[0] * y, rtol=1e-11, atol=1e-12)


def test_a_token_sees_its_own_streams_alone(connection, streams_arm):
    module, x = awake(connection(streams_arm)), streams(4)
    moved = x.clone()
    moved[:, 1] += 1
    before, after = apply(module, x), apply(module, moved)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(old[[0, 2]], new[[0, 2]], rtol=1e-13, atol=1e-14)
    assert not torch.allclose(before.h[1], after.h[1])


def test_batch_and_time_are_not_confused(connection, streams_arm):
    module, x = awake(connection(streams_arm)), streams(4, tokens=6)
    one = apply(module, x)
    two = apply(module, x.view(2, 3, 4, DIM))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)


def test_streams_that_are_zero_give_finite_maps_and_gradients(connection, streams_arm):
    module, x = awake(connection(streams_arm)).float(), torch.zeros(1, 2, 4, DIM, requires_grad=True)
    out, (_, _, h_res), _ = module(x, branch)
    (out.square().sum() + h_res.square().sum()).backward()
    for tensor in (out, h_res, x.grad, *(p.grad for p in module.parameters())):
        assert tensor.isfinite().all()


def test_autocast_touches_the_branch_and_nothing_else(connection, streams_arm):
    module, x = awake(connection(streams_arm)).float(), streams(4).float()
    weight = torch.eye(DIM)
    seen: list[Tensor] = []

    def linear(h: Tensor) -> Tensor:
        seen.append(h)
        return h @ weight

    plain, (_, _, plain_mix), _ = module(x, linear)
    with torch.autocast("cpu", torch.bfloat16):
        out, (_, _, h_res), _ = module(x, linear)
        again = module(x.bfloat16(), linear).streams
        assert linear(x[0]).dtype == torch.bfloat16
    assert out.dtype == again.dtype == h_res.dtype == seen[1].dtype == torch.float32
    assert torch.equal(h_res, plain_mix)
    assert torch.equal(seen[1], seen[0])
    torch.testing.assert_close(out, plain, rtol=0, atol=0.1)
    assert not torch.equal(out, plain)  # the branch itself ran in bfloat16
