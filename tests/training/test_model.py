"""The body against a slow twin, and what must hold between arms: equal at step 0, alive after it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.config import Config, ModelConfig
from mhc_repro.training.model import make_model
from stopping import assert_equal
from tiny_steps import SEQUENCE, VOCAB, tokens, train

SIZES = [1, 2, 4, 8]


def layer_norm(x: Tensor, weight: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-12).sqrt() * weight


def slow_branch(weights: dict[str, Tensor], index: int, h: Tensor, pre: bool = True) -> Tensor:
    """F of sub-layer `index`: attention with its mask and softmax written out, or the MLP."""
    own = {name.split(".", 2)[2]: w for name, w in weights.items() if name.startswith(f"branches.{index}.")}
    if pre:
        h = layer_norm(h, own["norm.weight"])
    if "up.weight" in own:
        wide = h @ own["up.weight"].T
        return (wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))) @ own["down.weight"].T
    heads, dim = 2, h.shape[-1] // 2
    q, k, v = (h @ own["qkv.weight"].T).chunk(3, dim=-1)
    outputs = []
    for head in range(heads):
        part = slice(head * dim, (head + 1) * dim)
        query, key = q[..., part], k[..., part]
        if "q_norm.weight" in own:
            query, key = layer_norm(query, own["q_norm.weight"]), layer_norm(key, own["k_norm.weight"])
        scores = query @ key.transpose(-1, -2) / math.sqrt(dim)
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        outputs.append(scores.masked_fill(future, -torch.inf).softmax(-1) @ v[..., part])
    return torch.cat(outputs, dim=-1) @ own["out.weight"].T


def slow_logits(model, inputs: Tensor, pre: bool = True) -> Tensor:
    """The whole forward: copies in, X' = H_res X + H_post^T F(H_pre X), sum, norm, tied head.

    With post-norm X' is normalised, each stream by itself, and what F reads is not.
    """
    weights = dict(model.named_parameters())
    x = weights["embedding.weight"][inputs] + weights["position.weight"][: inputs.shape[1]]
    streams = torch.stack([x] * model.expansion.n, dim=2)
    for index, connection in enumerate(model.connections):
        streams = connection(streams, lambda h, index=index: slow_branch(weights, index, h, pre)).streams
        if not pre:
            gain = weights[f"branches.{index}.norm.weight"]
            streams = torch.stack([layer_norm(stream, gain) for stream in streams.unbind(2)], dim=2)
    return layer_norm(sum(streams.unbind(2)), weights["norm.weight"]) @ weights["embedding.weight"].T


@pytest.mark.parametrize("body", [{}, {"norm": "post"}, {"qk_norm": True}], ids=str)
def test_the_body_is_the_one_described(tiny, arm, body):
    model = tiny(arm, awake=0.5, model=body)
    with torch.no_grad():
        for name, parameter in model.body_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(torch.linspace(0.5, 1.5, len(parameter)))
        expected = slow_logits(model, tokens()[0], pre=body.get("norm") != "post")
        torch.testing.assert_close(model(tokens()[0]), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("gain", [1.0, 1e3])
def test_normalised_queries_and_keys_bound_the_logits_of_attention(tiny, monkeypatch, gain):
    """Both have norm sqrt(d) at most, so their product over sqrt(d) is sqrt(d) at most, whatever the weights."""
    largest = []
    attention = functional.scaled_dot_product_attention

    def attend(q, k, v, **settings):
        largest.append((q @ k.transpose(-1, -2)).abs().max().item() / math.sqrt(q.shape[-1]))
        return attention(q, k, v, **settings)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", attend)
    for qk_norm in (False, True):
        model = tiny("baseline", model={"qk_norm": qk_norm})
        with torch.no_grad():
            for branch in model.branches[::2]:
                branch.qkv.weight.mul_(gain)
            model(tokens()[0])
    bound = math.sqrt(8 / 2)
    assert bound / 2 < max(largest[2:]) <= bound * (1 + 1e-9)
    assert (max(largest[:2]) > 1e3 * bound) == (gain > 1)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("n", SIZES)
def test_every_arm_gives_the_baselines_logits_at_step_0(tiny, streams_arm, n, reduce):
    with torch.no_grad():
        expected = tiny("baseline")(tokens()[0])
        logits = tiny(streams_arm, n=n, reduce=reduce)(tokens()[0])
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("n", SIZES)
def test_with_post_norm_hc_starts_at_the_baseline(tiny, n):
    """The other arms read half of a stream more or less, which no norm before the branch takes out any more."""
    with torch.no_grad():
        expected, logits = (tiny(arm, n=n, model={"norm": "post"})(tokens()[0]) for arm in ("baseline", "hc"))
        pre = tiny("baseline")(tokens()[0])
    assert (expected - pre).abs().max() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


# Why gradients are zero: see test_arms_in_a_net.py. Of sub-layer L mix has one that vanishes as Sinkhorn
# converges; with one stream all reads are multiples of x, and Sinkhorn gives the number 1.
CONVERGED = {"kind": "sinkhorn", "iterations": 500}
DEAD = {
    ("mhc converged", 2): {"0.read", "0.mix", "3.mix"},
    ("identity", 1): {f"{layer}.read" for layer in range(4)},
    ("hc", 1): {f"{layer}.read" for layer in range(4)},
    ("mhc", 1): {f"{layer}.{part}" for layer in range(4) for part in ("read", "mix")},
}


@pytest.mark.parametrize(("case", "n"), DEAD)
def test_every_connection_parameter_learns_except_those_that_cannot(tiny, case, n):
    arm, *converged = case.split()
    settings = {"mixing": CONVERGED | {"start": [-1, 1]}} if converged else {}
    # A norm without eps ignores scale exactly, not up to 1e-12 over the variance.
    model = tiny(arm, n=n, model={"norm_eps": 1e-30}, **settings)
    start = {name: parameter.detach().clone() for name, parameter in model.connection_parameters()}
    train(model, steps=6)
    whole = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for name, parameter in model.connection_parameters():
        _, layer, part, _ = name.split(".")
        gradient = (parameter.grad.norm() / whole).item()
        moved = (parameter - start[name]).abs().max().item()
        if f"{layer}.{part}" in DEAD[case, n]:
            assert gradient < 1e-15, name
            assert moved < 1e-7, name  # Adam divides even noise by itself
        else:
            assert gradient > 1e-10, name
            assert moved > 1e-4, name


def test_every_entry_of_every_static_map_moves(tiny, streams_arm):
    cannot = {"0.read", "0.mix"} if streams_arm == "mhc" else {"0.read"}
    model = tiny(streams_arm)
    start = {name: parameter.detach().clone() for name, parameter in model.connection_parameters()}
    train(model, steps=6)
    for name, parameter in model.connection_parameters():
        _, layer, part, kind = name.split(".")
        if kind == "bias" and f"{layer}.{part}" not in cannot:
            assert (parameter - start[name]).abs().min() > 1e-6, name


@pytest.mark.parametrize("n", [2, 4])
def test_body_weights_depend_on_the_seed_and_never_on_the_arm(tiny, streams_arm, n):
    torch.manual_seed(n)  # whatever the global generator holds
    models = tiny(streams_arm, n=n), tiny("baseline"), tiny("baseline", seed=1)
    weights, expected, other = (dict(model.body_parameters()) for model in models)
    assert list(weights) == list(expected)
    assert_equal(weights, expected)
    for name, parameter in expected.items():
        assert torch.equal(other[name], parameter) == name.endswith("norm.weight"), name


@pytest.mark.parametrize("body", [{"qk_norm": True}, {"norm": "post"}], ids=str)
def test_another_norm_leaves_the_matrices_as_they_were_drawn(tiny, body):
    changed, expected = (dict(tiny("mhc", model=each).named_parameters()) for each in (body, {}))
    assert all(torch.equal(changed[name], parameter) for name, parameter in expected.items())
    gains = [p for name, p in changed.items() if name not in expected]
    assert len(gains) == (4 if "qk_norm" in body else 0)
    assert all(torch.equal(gain, torch.ones(4, dtype=gain.dtype)) for gain in gains)


def test_body_weights_do_not_depend_on_the_precision(tiny):
    wide, narrow = (dict(tiny("mhc", precision=each).body_parameters()) for each in ("float64", "float32"))
    assert_equal({name: parameter.float() for name, parameter in wide.items()}, narrow)


def test_dropout_acts_where_the_published_protocol_has_it(tiny, monkeypatch):
    """On the embedding, on attention's weights, and twice in the MLP; never on streams once they are made."""
    calls = []
    original, attention = functional.dropout, functional.scaled_dot_product_attention

    def dropout(x, p, training):
        assert training
        calls.append((*x.shape[2:], p))
        return original(x, p, training)

    def attend(*args, dropout_p, **kwargs):
        calls.append(("attention", dropout_p))
        return attention(*args, dropout_p=dropout_p, **kwargs)

    monkeypatch.setattr(functional, "dropout", dropout)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", attend)
    tiny("mhc", model={"dropout": 0.1, "blocks": 1})(tokens()[0])
    assert calls == [(8, 0.1), ("attention", 0.1), (16, 0.1), (8, 0.1)]


def test_the_body_has_no_biases_and_one_matrix_for_embedding_and_head(tiny):
    shapes = {name: tuple(p.shape) for name, p in tiny("baseline").named_parameters()}
    assert not [name for name in shapes if "bias" in name]
    assert [name for name, shape in shapes.items() if VOCAB in shape] == ["embedding.weight"]
    assert shapes["position.weight"] == (SEQUENCE, 8)


def test_body_matrices_are_drawn_with_the_std_that_is_set(connection):
    body = ModelConfig(blocks=1, dim=64, heads=4)
    model = make_model(Config(connection=connection("mhc"), model=body), seed=0)
    for name, parameter in model.body_parameters():
        if parameter.dim() == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.03), name
            assert abs(parameter.mean().item()) < 1e-3, name
        else:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
