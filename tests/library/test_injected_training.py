"""A model with a connection in it trains, is saved, copied, checkpointed, compiled; ejected it is itself again."""

import copy

import pytest
import torch
from torch import nn

from injected_models import (
    CUT,
    REAL,
    TEXT,
    TOKENS,
    Block,
    Decoder,
    decoder,
    gpt2,
    injected,
    next_token,
    train,
)
from mhc_repro import GainMonitor, eject, inject, parameter_groups
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import read_run


@pytest.mark.parametrize("name", ["hc", "mhc", "history", "history_simplex"])
def test_every_parameter_of_it_learns(name):
    """At step 0 some gradients are 0 by symmetry of copies, H_res's among them; after some updates none is."""
    model = decoder()
    inject(model, Block, name, sample=TOKENS)
    train(model, 3, next_token)
    next_token(model).backward()
    for block in model.blocks:
        for label, parameter in block.wrapped.connection.named_parameters():
            alone = name.startswith("history") and block.wrapped.layer == 0  # one state: nothing to weigh
            assert alone or parameter.grad.abs().max() > 0, label


@pytest.mark.parametrize(
    ("which", "name"),
    [("gpt2", "hc"), ("gpt2", "mhc"), ("gpt2", "history"), ("modernbert", "mhc"), ("vit", "hc")],
)
def test_real_models_keep_their_function_and_learn_beside_the_original(which, name, tmp_path):
    make, target, sample, loss = REAL[which]
    original, model = make().train(), make().train()
    for each in (original, model):
        for module in each.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    inject(model, target, name, sample=sample)
    assert model.training

    def tuned(net, each=lambda loss: None):
        generator = torch.Generator().manual_seed(1)  # so that both see the same batches
        train(net, 15, lambda net: loss(net, TEXT[:CUT], generator), parameter_groups(net, 0.01), each)
        return held_out(net)

    @torch.no_grad()
    def held_out(net):
        generator = torch.Generator().manual_seed(2)
        return sum(loss(net, TEXT[CUT:], generator).item() for _ in range(8)) / 8

    before = held_out(original)
    assert held_out(model) == pytest.approx(before, rel=1e-10)
    with GainMonitor(model, 2, tmp_path / "mine", name=name) as monitor:
        after = tuned(model, monitor.step)
    assert after < 0.9 * before
    assert after < 1.1 * tuned(original)
    run = read_run(monitor.path)
    assert verdict(run).dead == verdict(run).off_the_constraint == ()
    assert run.metrics["gain/composite_forward"].iloc[0] == pytest.approx(1, abs=1e-6)
    assert run.gains["distance_identity"].max() > 0


def test_checkpoints_come_back_and_eject_gives_the_blocks():
    first, second = decoder(), decoder()
    blocks = list(first.blocks)
    inject(first, Block, "mhc", sample=TOKENS)
    assert first.blocks[1].kind == "plain"  # attributes of a block stay in reach
    train(first, 3, next_token)
    inject(second, Block, "mhc", sample=TOKENS)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(TOKENS), second(TOKENS))
    again = copy.deepcopy(first)
    assert torch.equal(first(TOKENS), again(TOKENS))
    eject(first)
    assert list(first.blocks) == blocks
    assert list(first.state_dict()) == list(decoder().state_dict())
    inject(first, Block, "hc", sample=TOKENS)


def test_an_arm_that_follows_its_training_is_told_how_far_it_is():
    module = injected(decoder(), Block, "mhc_annealed").blocks[0]
    module.at(1.0)
    assert module.wrapped.connection.write_scale == pytest.approx(0.5)  # from 2 to 1


def test_ejected_at_once_it_is_the_original():
    model = decoder()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    eject(inject(model, "blocks.*", "mhc", sample=TOKENS))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(model(TOKENS), decoder()(TOKENS))


def test_checkpointing_inside_is_the_same_and_around_is_told():
    plain, inside = (gpt2(attn_pdrop=0, embd_pdrop=0, resid_pdrop=0) for _ in range(2))
    for model in (plain, inside):
        inject(model.train(), "GPT2Block", "mhc", sample=TOKENS)
    inside.gradient_checkpointing_enable()
    for model in (plain, inside):
        next_token(model).backward()
    for mine, theirs in zip(plain.parameters(), inside.parameters(), strict=True):
        assert mine.grad is theirs.grad is None or torch.allclose(mine.grad, theirs.grad, atol=1e-12)

    class Around(Decoder):
        reentrant = True

        def forward(self, tokens):
            x = self.embedding(tokens)
            for block in self.blocks:
                if torch.is_grad_enabled():
                    x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=self.reentrant)
                else:
                    x = block(x)
            return self.head(self.norm(x))

    model = decoder(body=Around)
    inject(model, Block, "mhc", sample=TOKENS)
    with pytest.raises(UserError, match="Gradient checkpointing around blocks"):
        next_token(model).backward()
    model.reentrant = False
    next_token(model).backward()
    assert model.blocks[2].up.weight.grad.abs().max() > 0


def test_under_autocast_and_compiled():
    model = decoder(dtype=torch.float32)
    before = model(TOKENS)
    few = {"kind": "sinkhorn", "iterations": 2}  # unrolled code takes long to trace
    inject(model, Block, "mhc", sample=TOKENS, mixing=few)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(model(TOKENS).float(), before, atol=0.05)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    assert torch.allclose(compiled(TOKENS), before, atol=1e-5)
