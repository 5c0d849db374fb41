"""Models that connections are put into: a decoder of one's own, and three of transformers with what they learn."""

from pydoc_data.topics import topics

import pytest
import torch
from torch import nn
from torch.nn import functional

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


def decoder(block=Block, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return Decoder(block, **options).to(dtype)


def gpt2(dtype=torch.float64, vocab=VOCAB, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": vocab, "n_positions": BYTES, "n_embd": WIDTH, "n_layer": 3, "n_head": 2}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, **options)
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).to(dtype)


def vit(dtype=torch.float64):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(**sizes, image_size=8, patch_size=4)
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(config).to(dtype)


def modernbert(dtype=torch.float64):
    transformers = pytest.importorskip("transformers")
    config = transformers.ModernBertConfig(
        vocab_size=257,
        hidden_size=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=256,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")),
    )
    torch.manual_seed(0)
    return transformers.ModernBertForMaskedLM(config).to(dtype)


IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()


def next_byte(model, text, generator):
    windows = drawn(text, generator)
    return functional.cross_entropy(model(windows).logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())


def hidden_byte(model, text, generator):
    windows = drawn(text, generator)
    hidden = torch.rand(windows.shape, generator=generator) < 0.15
    return functional.cross_entropy(model(windows.masked_fill(hidden, 256)).logits[hidden], windows[hidden])


def of_images(model, text, generator):
    return functional.cross_entropy(model(IMAGES).logits, torch.tensor([0, 1]))


def drawn(text, generator):
    starts = torch.randint(len(text) - BYTES, (8,), generator=generator).tolist()
    return torch.stack([text[at : at + BYTES] for at in starts])


REAL = {
    "gpt2": (lambda: gpt2(vocab=256), "GPT2Block", TEXT[None, :BYTES], next_byte),
    "modernbert": (modernbert, "ModernBertEncoderLayer", TEXT[None, :BYTES], hidden_byte),
    "vit": (vit, "ViTLayer", IMAGES, of_images),
}


def train(model, steps, forward, groups=None, each=lambda loss: None):
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(groups or model.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = forward(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        each(loss)
    return loss.item()


def next_token(model):
    logits = model(TOKENS)
    logits = getattr(logits, "logits", logits)
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
