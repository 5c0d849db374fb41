"""The gated residual: its read typed in, what is recorded of it, and how it starts."""

import math

import pytest
import torch
from torch import Tensor

from mhc_repro.connections import KINDS, build
from own_models import stirred
from tiny_steps import spread, train

DIM, N = 16, 4


def awake(settings, layer: int = 1):
    return stirred(build(settings, layer, DIM).double(), seed=layer, by=0.5)


def streams(tokens: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(1, tokens, N, DIM, generator=generator, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@torch.no_grad()
def test_reads_and_writes_are_those_of_the_equations(connection):
    module, x, read = awake(connection("gated_residual")), streams(), []

    def branch(h: Tensor) -> Tensor:
        read.append(h)
        return h.sin()

    out, maps, _ = module(x, branch)
    for token in range(x.shape[1]):
        rows = x[0, token].tolist()
        gain = module.gain.tolist()
        sizes = [math.sqrt(sum(v * v for v in row) / DIM) for row in rows]
        normed = [[v / sizes[i] * gain[i][c] for c, v in enumerate(row)] for i, row in enumerate(rows)]
        flat = [v / N for row in normed for v in row]
        hidden = [sum(w * v for w, v in zip(row, flat, strict=True)) for row in module.down_phi.tolist()]
        hidden = [v * sigmoid(v) for v in hidden]
        up = [sum(w * v for w, v in zip(row, hidden, strict=True)) for row in module.phi.tolist()]
        gates = [[sigmoid(up[i * DIM + c] + module.bias[i].item()) for c in range(DIM)] for i in range(N)]
        h = [sum(gates[i][c] * normed[i][c] for i in range(N)) / N for c in range(DIM)]
        torch.testing.assert_close(read[0][0, token], torch.tensor(h, dtype=torch.float64))
        mean = [sum(gates[i][c] * gain[i][c] for c in range(DIM)) / DIM / sizes[i] / N for i in range(N)]
        torch.testing.assert_close(maps.read[:, token], torch.tensor(mean, dtype=torch.float64))
        size = math.sqrt(sum(v * v for row in rows for v in row) / (N * DIM))
        vec = torch.tensor([v / size for row in rows for v in row], dtype=torch.float64)
        write = 2 * (module.write.alpha * (module.write.phi @ vec) + module.write.bias).sigmoid()
        torch.testing.assert_close(out[0, token], x[0, token] + write[:, None] * read[0][0, token].sin())
    assert torch.equal(maps.mix, torch.eye(N, dtype=torch.float64)[..., None].expand(N, N, 3))


def test_every_gradient_is_that_of_finite_differences(connection):
    module, x = awake(connection("gated_residual")), streams(2).requires_grad_()
    parameters = dict(module.named_parameters())
    leaves = (x, *(each.detach().clone().requires_grad_() for each in parameters.values()))

    def call(x: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(module, state, (x, torch.sin)).streams

    assert torch.autograd.gradcheck(call, leaves, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("read", [[0.0, 0.0], [-3.0, 3.0]])
@pytest.mark.parametrize("write", [[0.0, 0.0], [0.0, 1.0]])
def test_streams_separate_however_they_start(tiny, connection, read, write):
    """Without a home stream too: the random W_d tells them apart, from the second update on."""
    starts = {"read_start": read, "write_start": write}
    assert not KINDS["gated"].nature(connection("gated_residual", **starts)).exchangeable
    model = tiny("gated_residual", **starts)
    train(model, steps=2)
    assert max(spread(model)) > 1e-6


def test_it_starts_as_the_read_of_app_a6(connection):
    module = build(connection("gated_residual"), 5, DIM)
    assert module.bias.tolist() == [-3, 3, -3, -3]
    assert module.phi.abs().max() == 0
    module.draw(torch.Generator().manual_seed(0))
    assert module.down_phi.std().item() == pytest.approx(math.sqrt(N / DIM), rel=0.2)
