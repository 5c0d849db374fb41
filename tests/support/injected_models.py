"""Models that connections are put into: a decoder of one's own, and three of transformers with what they learn."""

from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn import functional

from drawn_numbers import drawn
from mhc_repro import inject
from own_models import descend, of_transformers, seeded

WIDTH, VOCAB = 16, 24
TOKENS = torch.arange(18).view(3, 6) % VOCAB
TEXT = torch.tensor(list("\n".join(topics.values()).encode()))  # Python's manual, in bytes
CUT, BYTES = 9 * len(TEXT) // 10, 16  # what is held out; the length of a window


class Block(nn.Module):
    """A pre-norm block whose branch is not blind to the scale of what it reads."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gate = nn.Linear(width, width)
        self.kind = "plain"

    def forward(self, x, scale=1.0):
        x = x + torch.tanh(self.gate(x))
        return x + scale * self.down(functional.gelu(self.up(self.norm(x))))


class Decoder(nn.Module):
    def __init__(self, block=Block, layers: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.blocks = nn.ModuleList(block() for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCAB)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, scale=0.7)
        return self.head(self.norm(x))


def decoder(block=Block, dtype=torch.float64, body=Decoder, **options):
    return seeded(lambda: body(block, **options)).to(dtype)


def gpt2(vocab=VOCAB, **options):
    sizes = {"vocab_size": vocab, "n_positions": BYTES, "n_embd": WIDTH, "n_layer": 3, "n_head": 2}
    return of_transformers("GPT2", "LMHeadModel", **sizes, bos_token_id=0, eos_token_id=0, **options)


SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def vit():
    return of_transformers("ViT", "ForImageClassification", **SIZES, image_size=8, patch_size=4)


def modernbert():
    none = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"))
    return of_transformers("ModernBert", "ForMaskedLM", **SIZES, vocab_size=257, pad_token_id=256, **none)


IMAGES = drawn(2, 3, 8, 8)


def next_byte(model, text, generator):
    windows = windows_of(text, generator)
    return functional.cross_entropy(model(windows).logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())


def hidden_byte(model, text, generator):
    windows = windows_of(text, generator)
    hidden = torch.rand(windows.shape, generator=generator) < 0.15
    return functional.cross_entropy(model(windows.masked_fill(hidden, 256)).logits[hidden], windows[hidden])


def of_images(model, text, generator):
    return functional.cross_entropy(model(IMAGES).logits, torch.tensor([0, 1]))


def windows_of(text, generator):
    starts = torch.randint(len(text) - BYTES, (8,), generator=generator).tolist()
    return torch.stack([text[at : at + BYTES] for at in starts])


REAL = {
    "gpt2": (lambda: gpt2(vocab=256), "GPT2Block", TEXT[None, :BYTES], next_byte),
    "modernbert": (modernbert, "ModernBertEncoderLayer", TEXT[None, :BYTES], hidden_byte),
    "vit": (vit, "ViTLayer", IMAGES, of_images),
}


def train(model, steps, forward, groups=None, each=lambda loss: None):
    torch.manual_seed(1)
    descend(groups or model.parameters(), (forward(model) for _ in range(steps)), each)


def next_token(model):
    logits = model(TOKENS)
    logits = getattr(logits, "logits", logits)
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


def injected(model, block, name, **options):
    """Put an arm into a model, and hold it to the function that it had."""
    before = model(TOKENS)
    inject(model, block, name, sample=TOKENS, **options)
    assert torch.allclose(model(TOKENS), before, rtol=1e-10)
    return model
