"""What cannot be injected is one line that says why, and leaves the model as it was."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from injected_models import TOKENS, Block, Decoder, decoder
from mhc_repro import inject
from mhc_repro.errors import UserError
from mhc_repro.library.injected import Injected


def refused(said, model, target="blocks.*", *options, sample=TOKENS):
    """Hold an injection to one line that says this, and to a model with nothing injected and no trace of a look."""
    with pytest.raises(UserError, match=said) as error:
        inject(model, target, *options, sample=sample)
    assert "\n" not in str(error.value)
    assert not any(isinstance(module, Injected) for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


def halved(block, x):
    x.flatten(0, 1).mul_(0.5)
    return x + block.gate(x)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda block, x: block.norm(x + block.gate(x)), "comes from layer_norm.*a post-norm block"),
        (lambda block, x: 0.9 * x + block.gate(x), "not from an addition to its input"),
        (lambda block, x: (x + block.gate(x))[:, ::2], "keeps the shape"),
        (lambda block, x: x.add_(block.gate(x)), "changes its input in place"),
        (lambda block, x: x.add_(block.gate(x)) + block.down(block.up(x)), "changes its input in place"),
        (halved, "changes its input in place"),
        (lambda block, x: x, "not from an addition to its input"),
        (lambda block, x: (x, x + block.gate(x))[0], "not from an addition to its input"),
    ],
)
def test_a_block_that_is_not_x_plus_something_is_told(forward, said):
    class Wrong(Block):
        def forward(self, x, scale=1.0):
            return forward(self, x)

    refused(said, decoder(Wrong))


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda x, norm, one, two, three: three(two(one(one(x)))), "called 2 times in a forward"),
        (lambda x, norm, one, two, three: three(one(x)), "blocks.1: not called in a forward"),
        (lambda x, norm, one, two, three: three(norm(two(one(x)))), "something stands between"),
    ],
)
def test_a_model_that_calls_its_blocks_in_another_way_is_told(forward, said):
    class Wrong(Decoder):
        def forward(self, tokens):
            return self.head(forward(self.embedding(tokens), self.norm, *self.blocks))

    refused(said, decoder(body=Wrong))


def test_blocks_that_are_shared_or_injected_already_are_told():
    model = decoder()
    model.blocks = nn.ModuleList([model.blocks[0]] * 3)
    refused("blocks.1 is blocks.0: shared blocks", model)
    model = inject(decoder(), Block, sample=TOKENS)
    with pytest.raises(UserError, match=r"injected already; eject\(model\) first"):
        inject(model, Block, sample=TOKENS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Blok"], "nearest: Block"),
        ([nn.Conv2d], "Conv2d: no module of Decoder"),
        ([Block, "mhc_lite", 6], "n may be 1 to 4"),
        ([Block, "mch"], "did you mean mhc"),
        ([nn.Module], "lies in blocks"),
        ([Decoder], "that is Decoder itself; name the blocks in it"),
        ([""], "target='': that is Decoder itself"),
    ],
)
def test_a_mistake_is_one_line_that_teaches(arguments, said):
    refused(said, decoder(), *arguments)


def test_without_a_sample_there_is_nothing_to_look_at():
    refused("sample=: an input of the model is needed", decoder(), sample=None)


def test_of_outputs_that_are_no_numbers_none_can_be_kept():
    model = decoder()
    nn.init.constant_(model.head.bias, torch.nan)
    refused("gives NaN", model)


@pytest.mark.parametrize("reduce", ["sum", "head"])
def test_streams_that_are_not_joined_to_the_blocks_output_are_told(reduce):
    with pytest.raises(UserError, match="reduce= must be mean"):
        inject(decoder(), "Block", "mhc", reduce=reduce, sample=TOKENS)


def test_one_stream_whose_read_would_have_to_be_one_is_refused():
    with pytest.raises(UserError, match=r"n=1: a sigmoid H_pre is never 1; .* freeze"):
        inject(decoder(), "Block", "mhc", n=1, sample=TOKENS)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "refused"), [("mhc", False), ("mhc_warm", True)])
def test_a_forward_and_a_mode_of_a_block_stay_its_own(name, refused, training):
    model = decoder().train(training)
    block = model.blocks[1]
    block.forward = forward = partial(checkpoint, block.forward, use_reentrant=False)
    block.norm.train(not training)
    with pytest.raises(UserError) if refused else nullcontext():
        inject(model, Block, name, sample=TOKENS)
    assert isinstance(model.blocks[1], Injected) is not refused
    assert block.forward is forward
    held = "blocks.1.norm" if refused else "blocks.1.wrapped.branch.block.norm"
    assert [name for name, part in model.named_modules() if part.training is not training] == [held]


def test_what_is_changed_in_place_between_blocks_is_told():
    """A dropout that is none in eval mode passes the check of the blocks, and then changes what they handed on."""

    class Dropped(Decoder):
        def forward(self, tokens):
            x = self.embedding(tokens)
            for block in self.blocks:
                x = torch.nn.functional.dropout(block(x), 0.5, self.training, inplace=True)
            return self.head(x)

    model = inject(decoder(body=Dropped), Block, sample=TOKENS)
    with pytest.raises(UserError, match=r"blocks\.1: what the block before returned was changed in place"):
        model.train()(TOKENS)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda self, tokens: str(tokens), "the model returns no tensor of floats"),
        (lambda self, tokens: self.embedding(tokens.float()), "the model cannot be called with it"),
        (lambda self, tokens: self.blocks[0](x=self.embedding(tokens)), r"called with names alone, x=\.\.\."),
    ],
)
def test_a_model_that_cannot_be_checked_is_told(forward, said):
    refused(said, decoder(body=type("Odd", (Decoder,), {"forward": forward})))


def test_under_data_parallel_it_comes_too_late():
    """Its reducer knows the parameters that it was made with, and no others."""
    refused("inject first", decoder(body=type("DistributedDataParallel", (Decoder,), {})))
