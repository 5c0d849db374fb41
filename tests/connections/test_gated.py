"""The gated residual: its read typed in, what is recorded of it, and how it starts."""

import math

import pytest
import torch
from torch import Tensor

from mhc_repro.connections import KINDS, build
from one_connection import awake, check_gradients, dot, rms, sigmoid, streams
from tiny_steps import spread, train

DIM, N = 16, 4


@torch.no_grad()
def test_reads_and_writes_are_those_of_the_equations(connection):
    module, x, read = awake(connection("gated_residual"), dim=DIM), streams(N, dim=DIM), []

    def branch(h: Tensor) -> Tensor:
        read.append(h)
        return h.sin()

    out, maps, _ = module(x, branch)
    slopes = []
    for token in range(x.shape[1]):
        rows, gain = x[0, token].tolist(), module.gain.tolist()
        sizes = [rms(row) for row in rows]
        normed = [[v / sizes[i] * gain[i][c] for c, v in enumerate(row)] for i, row in enumerate(rows)]
        flat = [v / N for row in normed for v in row]
        hidden = [dot(row, flat) for row in module.down_phi.tolist()]
        hidden = [v * sigmoid(v) for v in hidden]
        up = [dot(row, hidden) for row in module.phi.tolist()]
        gates = [[sigmoid(up[i * DIM + c] + module.bias[i].item()) for c in range(DIM)] for i in range(N)]
        h = [sum(gates[i][c] * normed[i][c] for i in range(N)) / N for c in range(DIM)]
        torch.testing.assert_close(read[0][0, token], torch.tensor(h, dtype=torch.float64))
        mean = [sum(gates[i][c] * gain[i][c] for c in range(DIM)) / DIM / sizes[i] / N for i in range(N)]
        torch.testing.assert_close(maps.read[:, token], torch.tensor(mean, dtype=torch.float64))
        vec = x[0, token].flatten() / x[0, token].square().mean().sqrt()
        gate = (module.write.alpha * (module.write.phi @ vec) + module.write.bias).sigmoid()
        write = 2 * gate
        slopes.append(4 * gate * (1 - gate))
        torch.testing.assert_close(out[0, token], x[0, token] + write[:, None] * read[0][0, token].sin())
    assert torch.equal(maps.mix, torch.eye(N, dtype=torch.float64)[..., None].expand(N, N, 3))
    torch.testing.assert_close(module.gate_slope(maps), torch.stack(slopes).mean(0).max())


def test_every_gradient_is_that_of_finite_differences(connection):
    check_gradients(awake(connection("gated_residual"), dim=DIM), streams(N, dim=DIM))


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
