"""What cannot be injected is one line that says why, and leaves the model as it was."""

import pytest
from torch import nn

from injected_models import TOKENS, Block, Decoder, decoder
from mhc_repro import inject
from mhc_repro.errors import UserError
from mhc_repro.library.injected import Injected


class PostNorm(Block):
    def forward(self, x, scale=1.0):
        return self.norm(x + self.gate(x))


class Gated(Block):
    def forward(self, x, scale=1.0):
        return 0.9 * x + self.gate(x)


class Narrow(Block):
    def forward(self, x, scale=1.0):
        return (x + self.gate(x))[:, ::2]


class InPlace(Block):
    def forward(self, x, scale=1.0):
        x += self.gate(x)
        return x


class FirstInPlace(Block):
    def forward(self, x, scale=1.0):
        x += self.gate(x)
        return x + self.down(self.up(self.norm(x)))


class ViewInPlace(Block):
    def forward(self, x, scale=1.0):
        x.flatten(0, 1).mul_(0.5)
        return x + self.gate(x)


class Shared(Decoder):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.blocks[0]] * 3)


class Twice(Decoder):
    def forward(self, tokens):
        return self.head(self.blocks[0](self.blocks[0](self.embedding(tokens))))


class Skips(Decoder):
    def forward(self, tokens):
        return self.head(self.blocks[0](self.embedding(tokens)))


class Between(Decoder):
    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = self.norm(block(x))
        return self.head(x)


def injected_twice():
    return inject(inject(decoder(), Block, sample=TOKENS), Block, sample=TOKENS)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda m: inject(m(PostNorm), PostNorm, sample=TOKENS), "comes from layer_norm.*a post-norm block"),
        (lambda m: inject(m(Gated), Gated, sample=TOKENS), "not from an addition to its input"),
        (lambda m: inject(m(Narrow), Narrow, sample=TOKENS), "keeps the shape"),
        (lambda m: inject(m(InPlace), InPlace, sample=TOKENS), "changes its input in place"),
        (lambda m: inject(m(FirstInPlace), FirstInPlace, sample=TOKENS), "changes its input in place"),
        (lambda m: inject(m(ViewInPlace), ViewInPlace, sample=TOKENS), "changes its input in place"),
        (lambda m: inject(m(), "Blok", sample=TOKENS), "nearest: Block"),
        (lambda m: inject(m(), nn.Conv2d, sample=TOKENS), "Conv2d: no module of Decoder"),
        (lambda m: inject(m(), Block), "sample=: an input of the model is needed"),
        (lambda m: inject(m(), Block, "mhc_lite", 6, sample=TOKENS), "n may be 1 to 4"),
        (lambda m: inject(m(), Block, "mch", sample=TOKENS), "did you mean mhc"),
        (lambda m: injected_twice(), r"injected already; eject\(model\) first"),
        (lambda m: inject(Shared(), Block, sample=TOKENS), "blocks.1 is blocks.0: shared blocks"),
        (lambda m: inject(Twice(layers=1), Block, sample=TOKENS), "called 2 times in a forward"),
        (lambda m: inject(Skips(), Block, sample=TOKENS), "blocks.1: not called in a forward"),
        (lambda m: inject(Between(), Block, sample=TOKENS), "something stands between"),
        (lambda m: inject(m(), nn.Module, sample=TOKENS), "lies in blocks"),
        (lambda m: inject(m(), Decoder, sample=TOKENS), "that is Decoder itself; name the blocks in it"),
        (lambda m: inject(m(), "", sample=TOKENS), "target='': that is Decoder itself"),
    ],
)
def test_a_mistake_is_one_line_that_teaches(use, said):
    made = []

    def model(block=Block):
        made.append(decoder(block))
        return made[-1]

    with pytest.raises(UserError, match=said) as error:
        use(model)
    assert "\n" not in str(error.value)
    for each in made:  # nothing half-injected, no trace of the look at it
        assert not any(isinstance(module, Injected) for module in each.modules())
        assert not any("forward" in vars(module) for module in each.modules())
