"""Adapters against the real packages: the maps reported rebuild what each module passed on, the right way round."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from mhc_repro import GainMonitor
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library.sighted import linked, seen_by
from mhc_repro.runs import read_run
from own_models import (
    DIM,
    LAYERS,
    Lucidrains,
    Reference,
    batches,
    deepseek_v4,
    descend,
    heard,
    looked_at,
    seeded,
    stirred,
    train,
)


def read_by(weights, streams):
    return torch.einsum("jk,kjc->kc", weights, streams)


def passed_on(maps, streams, y):
    """What becomes of streams (tokens, n, dim) by maps of theirs and the branch's output."""
    return torch.einsum("ijk,kjc->kic", maps.mix, streams) + torch.einsum("ik,kc->kic", maps.write, y)


def rebuilt(all_maps, works, x):
    """Streams before every sub-layer and behind the last by the maps, which say what each branch was given."""
    states = [x.view(-1, 1, DIM).expand(-1, 4, -1)]
    for maps, ((h, y),) in zip(all_maps, works, strict=True):
        assert torch.allclose(read_by(maps.read, states[-1]), h.view(-1, DIM), atol=1e-6)
        states.append(passed_on(maps, states[-1], y.reshape(-1, DIM)))
    return states


@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("kind", ["hc", "mhc", "v2"])
def test_maps_of_lucidrains_rebuild_its_branches_inputs_and_its_streams(kind, decorated):
    model = stirred(seeded(lambda: Lucidrains(kind, decorated))).double()
    works = [heard(each) for each in model.branches]
    x = batches(1)[0].double()
    watch, output = looked_at(model, x)
    assert len(watch.sightings) == LAYERS
    *states, last = rebuilt([each.maps for each in watch.sightings], works, x)
    for sighting, state in zip(watch.sightings, states, strict=True):
        assert torch.allclose(sighting.before.double(), state, rtol=1e-5, atol=1e-6)
        mix = sighting.maps.mix
        straight, turned = (torch.einsum("ijk,kjc->kic", each, state) for each in (mix, mix.transpose(0, 1)))
        assert (turned - straight).abs().max() > 1e-3 or sighting is watch.sightings[0]
    assert torch.allclose(last.sum(1).view(x.shape), output, atol=1e-5)
    seen, how = seen_by(watch)
    assert how.finding is None
    assert how.straight < 1e-6 < 1e-3 < how.transposed
    ys = torch.stack([y.reshape(-1, DIM).std(-1, correction=0) for ((_, y),) in works])
    assert torch.allclose(torch.stack(seen.outputs[1:]).double(), ys, rtol=1e-3, atol=1e-4)


def test_lucidrains_mhc_is_exact_in_the_columns(tmp_path):
    """Its Sinkhorn ends on the streams that are written to: forward gains drift, backward gains do not."""
    model = seeded(lambda: Lucidrains("mhc"))
    with torch.no_grad():
        for layer in model.layers:
            layer.static_alpha.mul_(1).add_(4 * torch.randn(4, 5))
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        train(model, 1, monitor.step)
    run = read_run(monitor.path)
    assert run.connection == "mhc_of_lucidrains"
    assert run.gains["column_error"].max() < 1e-5 < 1e-4 < run.gains["row_error"].max()
    assert verdict(run).control == ("columns_exact",)
    assert verdict(run).dead == verdict(run).off_the_constraint == ()


def test_maps_of_transformers_deepseek_v4_rebuild_its_streams():
    model = stirred(deepseek_v4(), by=0.1).eval()
    layers = model.model.layers
    collapsed = [heard(hc) for layer in layers for hc in (layer.attn_hc, layer.ffn_hc)]
    works = [heard(each, lambda args: None) for layer in layers for each in (layer.self_attn, layer.mlp)]
    head = heard(model.model.hc_head)
    watch, _ = looked_at(model, torch.arange(12).view(2, 6))
    assert len(watch.sightings) == 4
    sightings = linked(watch)
    for sighting, ((streams, made),), ((_, y),) in zip(sightings, collapsed, works, strict=True):
        maps, before = sighting.maps, streams.flatten(0, 1)
        y = (y[0] if isinstance(y, tuple) else y).flatten(0, 1)
        assert torch.allclose(read_by(maps.read, before), made[2].flatten(0, 1), atol=1e-5)
        assert torch.allclose(passed_on(maps, before, y), sighting.after, atol=1e-5)
    ((last, out),) = head
    assert torch.allclose(read_by(watch.readout, last.flatten(0, 1)), out.flatten(0, 1), atol=1e-5)
    _, how = seen_by(watch)
    assert how.finding is None
    assert how.straight < 1e-6 < 1e-3 < how.transposed


def test_a_port_of_deepseek_v4_that_forgets_to_transpose_is_named(tmp_path, capsys):
    model = stirred(deepseek_v4(), by=0.1)
    for layer in model.model.layers:

        def forward(hidden_states, input_ids=None, layer=layer, **kwargs):
            for hc, norm, work in (
                (layer.attn_hc, layer.input_layernorm, lambda x: layer.self_attn(x, **kwargs)[0]),
                (layer.ffn_hc, layer.post_attention_layernorm, lambda x: layer.mlp(x, input_ids=input_ids)),
            ):
                post, comb, collapsed = hc(hidden_states)
                written = post[..., None] * work(norm(collapsed))[..., None, :]
                hidden_states = written + comb @ hidden_states
            return hidden_states

        layer.forward = forward
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        model(torch.arange(12).view(2, 6)).logits.sum().backward()
        monitor.step(1.0)
    run = read_run(monitor.path)
    assert verdict(run).applied_otherwise == ("h_res_transposed",)
    assert run.connection == "deepseek_v4"
    assert "h_res_transposed: H_res used transposed" in capsys.readouterr().err
    assert run.gains["column_error"].max() < 1e-4 < 1e-3 < run.gains["row_error"].max()


@pytest.mark.parametrize("turned", [False, True])
def test_an_h_res_the_wrong_way_round_is_found_in_narrow_streams_too(turned):
    model = stirred(seeded(lambda: Reference(turned))).bfloat16()
    watch, _ = looked_at(model, batches(1)[0].bfloat16())
    assert seen_by(watch)[1].finding == ("h_res_transposed" if turned else None)


@pytest.mark.parametrize("turned", [False, True])
def test_the_references_methods_show_their_maps(turned):
    model = stirred(seeded(lambda: Reference(turned))).double()
    works = [heard(each) for each in model.branches]
    x = batches(1)[0].double()
    watch, output = looked_at(model, x)
    seen, how = seen_by(watch)
    assert how.finding == ("h_res_transposed" if turned else None)
    last = rebuilt(seen.maps, works, x)[-1]
    assert torch.allclose(last.sum(1).view(x.shape), output, atol=1e-6)


def declared(module, inputs, outputs):
    """The maps of lucidrains' HC as a user's function may say them: of constants, which is all that is asked."""
    n = module.num_residual_streams
    return torch.full((n,), 1 / n), torch.ones(n), torch.eye(n)


def tokens_or_vectors(name, layers):
    """A model of so many sub-layers, the inputs of some steps, and a loss of what it makes of them."""
    if name == "deepseek_v4":
        model, inputs = deepseek_v4(layers), torch.arange(48).view(4, 2, 6) % 32
        return model, inputs, lambda output: output.logits.square().mean()
    # Few Sinkhorn iterations: a compiler takes long over unrolled code, and what is compared is as it is with many.
    few = {"layers": layers} | ({"sinkhorn_iters": 3} if name in ("mhc", "v2") else {})
    kind = name.removesuffix("_declared")
    model = seeded(Reference if name == "reference" else lambda: Lucidrains(kind, **few))
    return model, batches(4), lambda output: (output - 1).square().mean()


def around(model, how):
    """What is called in the model's place, and what holds while it is."""
    if how == "compiled":
        torch._dynamo.reset()
        return torch.compile(model, backend="aot_eager"), nullcontext
    if how == "checkpointed" and hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable()
    elif how == "checkpointed":
        for layer in model.layers:
            layer.forward = partial(torch.utils.checkpoint.checkpoint, layer.forward, use_reentrant=False)
    return model, lambda: torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast")


HOW = {
    "hc": ("plain", "autocast", "checkpointed"),
    "deepseek_v4": ("plain", "autocast", "compiled", "checkpointed"),
    "mhc": ("plain", "compiled"),
    "reference": ("plain",),
    "v2": ("plain", "checkpointed"),
    "hc_declared": ("plain",),
}


@pytest.mark.parametrize(("name", "how"), [(name, how) for name, ways in HOW.items() for how in ways])
def test_no_adapter_changes_a_bit_of_the_training(tmp_path, name, how):
    layers = LAYERS // 2 if how == "compiled" else LAYERS  # a compiler takes as long again over twice as many
    inputs, loss_of = tokens_or_vectors(name, layers)[1:]
    given = {"layers.*": declared} if name == "hc_declared" else None

    def trained(monitored):
        model = tokens_or_vectors(name, layers)[0]
        forward, held = around(model, how)
        monitor = GainMonitor(forward, 2, tmp_path / "mine", adapters=given) if monitored else None
        torch.manual_seed(1)

        def loss(x):
            with held():
                return loss_of(forward(x))

        descend(model.parameters(), map(loss, inputs), *([monitor.step] if monitor else []))
        if monitor:
            monitor.close()
        return model, torch.rand(4), monitor

    (plain, after, _), (other, same, monitor) = trained(False), trained(True)
    assert torch.equal(same, after)
    run = read_run(monitor.path)
    assert run.gains.groupby("step").size().to_dict() == {0: layers, 2: layers}
    if name != "hc_declared":  # nothing says how the streams of those are joined
        assert run.metrics["kernel/effective"].notna().sum() == 2
        assert monitor.applied.straight < 1e-3
    for mine, theirs in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    for module, untouched in zip(other.modules(), plain.modules(), strict=True):
        assert len(module._forward_hooks) == len(untouched._forward_hooks)
        assert len(module._forward_pre_hooks) == len(untouched._forward_pre_hooks)
        assert not {"width_connection", "depth_connection", "hc_pre", "hc_post"} & vars(module).keys()


@pytest.mark.parametrize("kind", ["hc", "mhc"])
def test_lucidrains_own_parameters_are_counted_apart(tmp_path, kind):
    model = seeded(lambda: Lucidrains(kind))
    with GainMonitor(model, 2, tmp_path / "mine") as monitor:
        train(model, 1, monitor.step)
    own = [p for name, p in model.named_parameters() if not {"branch", "branches"} & {*name.split(".")}]
    counted = read_run(monitor.path).manifest["parameters"]["connection"]
    assert counted == sum(parameter.numel() for parameter in own)


def test_what_is_not_measured_says_so():
    package = pytest.importorskip("hyper_connections")
    fractions = package.HyperConnections(2, dim=8, num_fracs=2, branch=nn.Linear(8, 8))
    with pytest.raises(UserError, match="fractions, several input views and channels first are not measured"):
        looked_at(nn.Sequential(fractions), torch.randn(4, 3, 8))
