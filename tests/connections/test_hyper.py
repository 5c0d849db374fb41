"""The maps, compiled or not, against the papers' equations typed in as loops over tokens, streams and features.

The oracles are written from mHC (arXiv 2512.24880) Eq. 3, 5, 7, 8 and 9 alone, with Python floats.
"""

import math
import shutil
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mhc_repro.connections import build
from one_connection import DIM, awake, branch, check_gradients, dot, rms, sigmoid, streams

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


def rms_norm(x: list[float]) -> list[float]:
    return [value / rms(x) for value in x]


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
    """Of each token its own streams alone, large or small, wherever it stands in a batch."""
    size = torch.logspace(-1, 1, 6, dtype=torch.float64)[:, None, None]
    module, x = awake(connection(streams_arm, n=n)), (size * streams(n, tokens=6)).view(2, 3, n, DIM)
    result = apply(module, x)
    assert n > 1 or streams_arm == "hc" or torch.equal(result.h_res, torch.ones_like(result.h_res))
    for token, rows in enumerate(x.flatten(0, 1).tolist()):
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
    check_gradients(awake(connection(streams_arm)), streams(4))


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
@pytest.mark.parametrize(("name", "off", "home"), [("hc", 0.0, 1.0), ("mhc", sigmoid(-3.0), sigmoid(3.0))])
def test_reads_start_at_the_home_stream_and_writes_at_all(connection, name, off, home, n, layer):
    """HC starts as a pre-norm residual net, mHC as in App. A.6; of its H_res see test_arms.py."""
    module = build(connection(name, n=n), layer, DIM)
    maps = maps_of(module.double(), streams(n))
    read = [home if j == layer % n else off for j in range(n)]
    expected = torch.tensor([*read, *[1.0] * n], dtype=torch.float64)
    torch.testing.assert_close(maps[:, : 2 * n], expected.expand(3, 2 * n), rtol=1e-10, atol=1e-12)
    if name == "hc":
        exact = apply(module.float(), streams(n).float()).h_res
        assert torch.equal(exact, torch.eye(n).expand_as(exact))


def test_gates_start_at_a_hundredth_and_input_dependence_at_zero(connection, streams_arm):
    for name, parameter in build(connection(streams_arm), 0, DIM).named_parameters():
        if name.endswith("alpha"):
            assert parameter.item() == pytest.approx(0.01)
        if name.endswith("phi"):
            assert parameter.abs().max() == 0


@pytest.mark.parametrize("saturated", ["read", "write"])
@pytest.mark.parametrize("name", ["mhc", "deepseek_v4", "mhc_warm"])
@torch.no_grad()
def test_the_slope_of_gates_is_of_the_stream_that_has_most_and_of_the_map_that_has_less(
    connection, name, saturated
):
    """4 s (1 - s) of each sigmoid or share s, mean over tokens: at most 1, and 0 where nothing can learn."""
    module = awake(connection(name))
    getattr(module, saturated).bias.copy_(torch.tensor([8.0, -8.0, -9.0, -4.0]))
    maps, eps, slopes = module(streams(4), branch).maps, module.config.eps, []
    for gates, start, factor in ((maps.read, eps, 1), (maps.write, 0.0, 1 if name == "mhc_warm" else 2)):
        shares = [[(gate - start) / factor for gate in of_stream] for of_stream in gates.tolist()]
        slopes.append(max(sum(4 * s * (1 - s) for s in each) / len(each) for each in shares))
    assert slopes[saturated == "write"] < 0.8 * slopes[saturated == "read"]
    assert module.gate_slope(maps).item() == pytest.approx(min(slopes), rel=1e-9, abs=1e-12)


def test_streams_that_are_zero_give_finite_maps_and_gradients(connection, streams_arm):
    module, x = awake(connection(streams_arm)).float(), torch.zeros(1, 2, 4, DIM, requires_grad=True)
    out, (_, _, h_res), _ = module(x, branch)
    (out.square().sum() + h_res.square().sum()).backward()
    for tensor in (out, h_res, x.grad, *(p.grad for p in module.parameters())):
        assert tensor.isfinite().all()


# Few Sinkhorn iterations: unrolled code takes a compiler long, and what is compared does not depend on how many.
QUICK_TO_COMPILE = {"hc": {}, "mhc": {"mixing": {"kind": "sinkhorn", "iterations": 3}}}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "dtype"), [("hc", "float64"), ("mhc", "float32")])
def test_compiled_and_uncompiled_agree_forward_and_backward(connection, name, dtype):
    module = awake(connection(name, **QUICK_TO_COMPILE[name]), dim=16).to(getattr(torch, dtype)).train()
    results = []
    for compiled in (False, True):
        module.compiled = compiled
        module.zero_grad()
        x = streams(4, tokens=8, dim=16).to(getattr(torch, dtype)).requires_grad_()
        out, (_, _, h_res), _ = module(x, branch)
        (out.sin().sum() + h_res.square().sum()).backward()
        results.append({"out": out, "h_res": h_res, "streams": x.grad})
        results[-1] |= {name: parameter.grad for name, parameter in module.named_parameters()}
    plain, compiled = results
    for key in plain:
        assert (compiled[key] - plain[key]).norm() <= TOLERANCE[dtype] * plain[key].norm(), key
