"""Adapters against the real packages: the maps reported rebuild what each module passed on, the right way round."""

from contextlib import ExitStack, nullcontext
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from torch import nn

from mhc_repro import GainMonitor, arm_names, connection_config
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library.adapters import Watch
from mhc_repro.library.finding import find
from mhc_repro.library.sighted import linked, seen_by
from mhc_repro.runs import read_run
from own_models import DIM, LAYERS, Reference, Stack, batches, branch, seeded, stirred, train

OURS = [arm for arm in arm_names() if connection_config(arm).kind != "outputs"]


class Lucidrains(nn.Module):
    """A stack of PyPI hyper-connections' modules, as its README has it; `decorated`: branches apart."""

    def __init__(self, kind: str, decorated: bool = False) -> None:
        super().__init__()
        import hyper_connections as package

        make = {
            "hc": package.get_init_and_expand_reduce_stream_functions,
            "mhc": package.mc_get_init_and_expand_reduce_stream_functions,
        }
        if kind == "v2":
            from hyper_connections import mHCv2

            make["v2"] = mHCv2.get_init_and_expand_reduce_stream_functions
        init, self.expand, self.reduce = make[kind](4, dim=DIM)
        self.branches = nn.ModuleList(branch() for _ in range(LAYERS))
        given = [None] * LAYERS if decorated else self.branches
        self.layers = nn.ModuleList(init(branch=each, layer_index=i) for i, each in enumerate(given))
        self.decorated = decorated

    def forward(self, x):
        x = self.expand(x)
        for layer, work in zip(self.layers, self.branches, strict=True):
            if self.decorated:
                h, add = layer(x)
                x = add(work(h))
            else:
                x = layer(x)
        return self.reduce(x)


def deepseek_v4():
    transformers = pytest.importorskip("transformers")
    config = transformers.DeepseekV4Config(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, qk_rope_head_dim=8, q_lora_rank=16, o_lora_rank=16, o_groups=2, index_n_heads=2,
        index_head_dim=16, index_topk=4, moe_intermediate_size=16, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, num_hash_layers=0, sliding_window=8, max_position_embeddings=32, hc_mult=4,
        hc_sinkhorn_iters=2, layer_types=["sliding_attention"] * 2, mlp_layer_types=["moe"] * 2,
    )  # fmt: skip
    return transformers.DeepseekV4ForCausalLM(config)


def watched(model, *inputs):
    """Run the model once under its adapters."""
    watch = Watch(tokens=1000)
    with ExitStack() as undo, torch.no_grad():
        for found in find(model, {}):
            found.adapter.attach(found.module, watch, undo)
        output = model(*inputs)
    return watch, output


def heard(module, given=lambda args: args[0]):
    """Keep what a module was given and what it made."""
    kept = []
    module.register_forward_hook(lambda _, args, output: kept.append((given(args), output)))
    return kept


@pytest.mark.parametrize(
    ("shape", "tokens", "kept"),
    [((3, 6), None, 18), ((8, 16), None, 64), ((32, 16), None, 128), ((64, 32), None, 256), ((8, 16), 5, 5)],
)
def test_tokens_are_picked_at_equal_distances_first_and_last_among_them(shape, tokens, kept):
    count = shape[0] * shape[1]
    x = torch.arange(2 * count).view(2, *shape).movedim(0, -1)  # no memory of its own order
    picked = Watch(tokens).pick(x, 2)
    assert picked.shape == (kept, 2)
    places = picked[:, 0]
    assert places[[0, -1]].tolist() == [0, count - 1]
    assert torch.equal(picked[:, 1], places + count)
    steps = places.diff()
    assert 0 < steps.min() <= steps.max() <= steps.min() + 1


@pytest.mark.parametrize("decorated", [False, True])
@pytest.mark.parametrize("kind", ["hc", "mhc", "v2"])
def test_maps_of_lucidrains_rebuild_its_branches_inputs_and_its_streams(kind, decorated):
    pytest.importorskip("hyper_connections")
    model = stirred(seeded(lambda: Lucidrains(kind, decorated))).double()
    works = [heard(each) for each in model.branches]
    x = batches(1)[0].double()
    watch, output = watched(model, x)
    assert len(watch.sightings) == LAYERS
    state = x.view(-1, 1, DIM).expand(-1, 4, -1)
    for sighting, kept in zip(watch.sightings, works, strict=True):
        maps = sighting.maps
        ((h, y),) = kept
        assert torch.allclose(sighting.before.double(), state, rtol=1e-5, atol=1e-6)
        assert torch.allclose(torch.einsum("jk,kjc->kc", maps.read, state), h.view(-1, DIM), atol=1e-5)
        mixed = torch.einsum("ijk,kjc->kic", maps.mix, state)
        state = mixed + torch.einsum("ik,kc->kic", maps.write, y.reshape(-1, DIM))
        turned = torch.einsum("jik,kjc->kic", maps.mix, sighting.before)
        assert (turned - mixed).abs().max() > 1e-3 or sighting is watch.sightings[0]
    assert torch.allclose(state.sum(1).view(x.shape), output, atol=1e-5)
    seen, how = seen_by(watch)
    assert how.finding is None
    assert how.straight < 1e-6 < 1e-3 < how.transposed
    ys = torch.stack([y.reshape(-1, DIM).std(-1, correction=0) for ((_, y),) in works])
    assert torch.allclose(torch.stack(seen.outputs[1:]).double(), ys, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["cast whole", "autocast"])
@pytest.mark.parametrize("name", OURS)
def test_of_narrow_streams_ours_shows_the_readout_that_it_applied(name, how, dtype):
    """Their weights explain what was joined, to the digits of narrow numbers."""
    model = stirred(seeded(lambda: Stack(name)), by=0.1)
    model = model.to(dtype) if how == "cast whole" else model
    read = heard(model.norm)
    with torch.autocast("cpu", dtype, enabled=how == "autocast"):
        watch, _ = watched(model, batches(1)[0].to(dtype))
    ((given, _),) = read
    joined = torch.einsum(
        "nk,knc->kc", watch.readout.expand(-1, len(watch.last)), watch.last.to(watch.readout)
    )
    assert watch.readout.dtype in (torch.float32, torch.float64)
    assert torch.allclose(joined.float(), given.flatten(0, 1).float(), rtol=0.02, atol=0.02)
    seen, how = seen_by(watch)
    assert len(seen.inputs) == LAYERS + 1
    assert how.finding is None
    assert {each.dtype for each in seen.maps[0]} == {torch.float32}


def test_lucidrains_mhc_is_exact_in_the_columns(tmp_path):
    """Its Sinkhorn ends on the streams that are written to: forward gains drift, backward gains do not."""
    pytest.importorskip("hyper_connections")
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
    model = stirred(seeded(deepseek_v4), by=0.1).eval()
    layers = model.model.layers
    collapsed = [heard(hc) for layer in layers for hc in (layer.attn_hc, layer.ffn_hc)]
    works = [heard(each, lambda args: None) for layer in layers for each in (layer.self_attn, layer.mlp)]
    head = heard(model.model.hc_head)
    watch, _ = watched(model, torch.arange(12).view(2, 6))
    assert len(watch.sightings) == 4
    sightings = linked(watch)
    for sighting, ((streams, made),), ((_, y),) in zip(sightings, collapsed, works, strict=True):
        maps, before = sighting.maps, streams.flatten(0, 1)
        y = (y[0] if isinstance(y, tuple) else y).flatten(0, 1)
        h = torch.einsum("jk,kjc->kc", maps.read, before)
        assert torch.allclose(h, made[2].flatten(0, 1), atol=1e-5)
        after = torch.einsum("ijk,kjc->kic", maps.mix, before) + torch.einsum("ik,kc->kic", maps.write, y)
        assert torch.allclose(after, sighting.after, atol=1e-5)
    ((last, out),) = head
    read = torch.einsum("jk,kjc->kc", watch.readout, last.flatten(0, 1))
    assert torch.allclose(read, out.flatten(0, 1), atol=1e-5)
    _, how = seen_by(watch)
    assert how.finding is None
    assert how.straight < 1e-6 < 1e-3 < how.transposed


def test_a_port_of_deepseek_v4_that_forgets_to_transpose_is_named(tmp_path, capsys):
    model = stirred(seeded(deepseek_v4), by=0.1)
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
    assert verdict(run).off_the_constraint == ("h_res_transposed",)
    assert run.connection == "deepseek_v4"
    assert "h_res_transposed: H_res used transposed" in capsys.readouterr().err
    assert run.gains["column_error"].max() < 1e-4 < 1e-3 < run.gains["row_error"].max()


@pytest.mark.parametrize("turned", [False, True])
def test_the_references_methods_show_their_maps(turned):
    model = stirred(seeded(lambda: Reference(turned))).double()
    works = [heard(each) for each in model.branches]
    x = batches(1)[0].double()
    watch, output = watched(model, x)
    state = x.view(-1, 1, DIM).expand(-1, 4, -1)
    seen, how = seen_by(watch)
    assert how.finding == ("h_res_transposed" if turned else None)
    for maps, ((h, y),) in zip(seen.maps, works, strict=True):
        assert torch.allclose(torch.einsum("jk,kjc->kc", maps.read, state), h.view(-1, DIM), atol=1e-6)
        state = torch.einsum("ijk,kjc->kic", maps.mix, state)
        state = state + torch.einsum("ik,kc->kic", maps.write, y.view(-1, DIM))
    assert torch.allclose(state.sum(1).view(x.shape), output, atol=1e-6)


def declared(module, inputs, outputs):
    """The maps of lucidrains' HC as a user's function may say them: of constants, which is all that is asked."""
    n = module.num_residual_streams
    return torch.full((n,), 1 / n), torch.ones(n), torch.eye(n)


def tokens_or_vectors(name):
    """A model, the inputs of some steps, and a loss of what it makes of them."""
    if name == "deepseek_v4":
        model, inputs = seeded(deepseek_v4), torch.arange(48).view(4, 2, 6) % 32
        return model, inputs, lambda output: output.logits.square().mean()
    model = seeded(Reference if name == "reference" else lambda: Lucidrains(name.removesuffix("_declared")))
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


@pytest.mark.parametrize("how", ["plain", "autocast", "compiled", "checkpointed"])
@pytest.mark.parametrize("name", ["hc", "mhc", "v2", "hc_declared", "reference", "deepseek_v4"])
def test_no_adapter_changes_a_bit_of_the_training(tmp_path, name, how):
    pytest.importorskip("hyper_connections")
    if (name, how) == ("reference", "checkpointed"):
        return  # it has no layers that are modules
    inputs, loss_of = tokens_or_vectors(name)[1:]
    given = {"layers.*": declared} if name == "hc_declared" else None

    def trained(monitored):
        model = tokens_or_vectors(name)[0]
        forward, held = around(model, how)
        monitor = GainMonitor(forward, 2, tmp_path / "mine", adapters=given) if monitored else None
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for x in inputs:
            with held():
                loss = loss_of(forward(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if monitor:
                monitor.step(loss)
        if monitor:
            monitor.close()
        return model, torch.rand(4), monitor

    (plain, after, _), (other, same, monitor) = trained(False), trained(True)
    assert torch.equal(same, after)
    run = read_run(monitor.path)
    assert run.gains.groupby("step").size().to_dict() == {0: LAYERS, 2: LAYERS}
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
    pytest.importorskip("hyper_connections")
    model = seeded(lambda: Lucidrains(kind))
    with GainMonitor(model, 2, tmp_path / "mine") as monitor:
        train(model, 1, monitor.step)
    own = sum(
        p.numel() for name, p in model.named_parameters() if "branch." not in name and "branches." not in name
    )
    assert read_run(monitor.path).manifest["parameters"]["connection"] == own


def test_what_is_not_measured_says_so():
    package = pytest.importorskip("hyper_connections")
    fractions = package.HyperConnections(2, dim=8, num_fracs=2, branch=nn.Linear(8, 8))
    with pytest.raises(UserError, match="fractions, several input views and channels first are not measured"):
        watched(nn.Sequential(fractions), torch.randn(4, 3, 8))
