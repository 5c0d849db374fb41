"""Connections that read all earlier outputs: their weights typed in, and what is recorded of them."""

import math

import pytest
import torch
from torch import Tensor

from drawn_numbers import drawn
from mhc_repro.evidence.composites import recomputed
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.measurement.seen import completed
from mhc_repro.runs import RunDirectory, read_run
from mhc_repro.training.loop import train
from one_connection import DIM, awake, check_gradients, dot, rms, streams

ARMS = ("attention_residuals", "muddformer", "muddformer_normed")
TOKENS = torch.arange(18).view(3, 6) % 17


def typed_in_attention(weigh, x: list[list[float]]) -> list[list[float]]:
    """softmax_i(w . RMSNorm(x_i))."""
    scores = [math.exp(dot(weigh.query.tolist(), row) / rms(row)) for row in x]
    return [[score / sum(scores) for score in scores]]


def typed_in_dense(weigh, x: list[list[float]]) -> list[list[float]]:
    """GELU(RMSNorm(x_newest) W_1) W_2 + a, a lot of weights for each way."""
    n, newest = len(x), [value / rms(x[-1]) for value in x[-1]]
    hidden = [dot(row, newest) for row in weigh.hidden_phi.tolist()]
    hidden = [value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in hidden]
    flat = [dot(row, hidden) for row in weigh.phi.tolist()]
    return [[flat[way * n + i] + weigh.bias[way, i].item() for i in range(n)] for way in range(weigh.ways)]


def typed_in_normed(weigh, x: list[list[float]]) -> list[list[float]]:
    """The newest, plus a scale times the sum over its rms of what is summed, each over its own."""
    made = []
    for way, weights in enumerate(typed_in_dense(weigh, x)):
        inner = [weight / rms(row) for weight, row in zip(weights, x, strict=True)]
        summed = [sum(w * row[c] for w, row in zip(inner, x, strict=True)) for c in range(DIM)]
        scale = weigh.scale[way].item() / rms(summed)
        made.append([(i == len(x) - 1) + scale * w for i, w in enumerate(inner)])
    return made


TYPED_IN = dict(zip(ARMS, (typed_in_attention, typed_in_dense, typed_in_normed), strict=True))


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("layer", [0, 2, 3])
@torch.no_grad()
def test_reads_and_what_is_added_are_those_of_the_equations(connection, name, layer):
    module, x, read = awake(connection(name), layer, by=1.0), streams(layer + 1), []

    def branch(*h: Tensor) -> Tensor:
        read.extend(h)
        return h[-1].sin()

    out, maps, _ = module(x, branch)
    dense = name != "attention_residuals"
    assert len(read) == (3 if dense and layer % 2 == 0 else 1)  # queries, keys and values; an MLP's one
    for token in range(x.shape[1]):
        rows = x[0, token].tolist()
        weights = TYPED_IN[name](module.weigh, rows)
        made = torch.tensor(weights, dtype=torch.float64) @ x[0, token]
        torch.testing.assert_close(torch.stack([h[0, token] for h in read]), made[: len(read)])
        added = made[len(read) - 1].sin() + (made[-1] if dense else 0)
        torch.testing.assert_close(out[0, token], torch.cat([x[0, token], added[None]]))
        last = torch.tensor(weights[len(read) - 1], dtype=torch.float64)
        torch.testing.assert_close(maps.read[:, token], last)


@pytest.mark.parametrize("name", ARMS)
def test_every_gradient_is_that_of_finite_differences(connection, name):
    check_gradients(awake(connection(name), layer=2, by=1.0), streams(3), lambda *h: sum(h).sin())


@torch.no_grad()
def test_attention_residuals_mix_nothing_at_any_depth(connection):
    """What it reads is recorded as H_pre, its H_res is I: every gain over 64 sub-layers is 1."""
    x, seen = streams(1), []
    for layer in range(64):
        x, maps, _ = awake(connection("attention_residuals"), layer, by=1.0)(x, torch.sin)
        seen.append(maps)
    h_res = torch.stack([maps.mix.permute(2, 0, 1) for maps in completed(seen)])
    assert torch.equal(h_res, torch.eye(65, dtype=torch.float64).expand_as(h_res))
    rows = gain_rows(h_res)
    assert {row[f"composite_{way}"] for row in rows for way in ("forward", "backward")} == {1.0}


@torch.no_grad()
def test_of_a_dense_net_the_composite_is_what_becomes_of_the_embedding(tiny):
    """With all branches silent output l is P[l, 0] times the embedding, P the forward composite."""
    model = tiny("muddformer", awake=0.3)
    one = TOKENS[:1, :1]
    last: list[Tensor] = []
    model.eval()(one, lambda _, x, *__: last.append(x), silent=range(1, 5))
    silent = model(one, lambda *_: None, silent=range(1, 5))
    assert silent.isfinite().all()
    grown, embedding = last[4][0, 0], last[0][0, 0]
    rows = gain_rows(torch.stack([maps.mix.permute(2, 0, 1) for maps in completed(_maps(model, one))]))
    composite = torch.tensor(rows[-1]["h_forward"], dtype=torch.float64).view(5, 5)
    torch.testing.assert_close(grown, composite[:, :1] * embedding)
    assert composite[:, 1:].abs().max() == 0  # at the start there is nothing else
    assert rows[-1]["composite_forward"] > 1.5


def _maps(model, tokens: Tensor) -> list:
    seen: list = []
    model(tokens, lambda _, __, maps, ___: seen.append(maps) if maps else None, silent=range(1, 5))
    return seen


@torch.no_grad()
def test_three_alike_are_one_to_an_attention(tiny):
    model = tiny("baseline")
    x, other = (drawn(2, 6, 8, seed=seed) for seed in (0, 1))
    attention = model.branches[0]
    torch.testing.assert_close(attention(x, x, x), attention(x))
    for at in range(3):
        mixed = [other if at == each else x for each in range(3)]
        assert (attention(*mixed) - attention(x)).abs().max() > 1e-3
        heads = zip(attention.heads_of(*mixed), attention.heads_of(x), strict=True)
        assert [torch.allclose(a, b) for a, b in heads] == [each != at for each in range(3)]


def test_a_run_of_it_is_read_back_as_it_was_measured(config):
    made = config("muddformer", probe={"token_maps": 12})
    assert train(made) == "finished"
    run = read_run(RunDirectory.of(made).path)
    for step in (0, 4):
        frame = recomputed(run, step)
        for direction in ("forward", "backward"):
            recorded, again = (frame[direction, which].to_list() for which in ("recorded", "kept"))
            assert again == pytest.approx(recorded, rel=1e-6)
    assert max(recorded) > 2  # backward it counts all outputs


def test_drawn_weights_are_the_seeds_and_not_the_bodys(tiny):
    first, again, other = tiny("muddformer"), tiny("muddformer"), tiny("muddformer", seed=1)
    drawn = [model.connections[2].weigh.hidden_phi for model in (first, again, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    for each in (drawn[0], first.reduction.weigh.hidden_phi):
        assert each.std().item() == pytest.approx(1 / math.sqrt(8), rel=0.3)
    body = dict(tiny("baseline").body_parameters())
    assert all(torch.equal(parameter, body[name]) for name, parameter in first.body_parameters())
