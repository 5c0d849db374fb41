# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own model
#
# Two models of Hugging Face's `transformers`, small and from a random start, learn the bytes of Python's manual: a
# GPT-2 the next one, a ModernBERT those that are hidden from it. Then connections are injected into copies without
# changing their function, copies and original are trained on side by side, and the copies' amax gains are read as
# those of any run. It takes seconds, so the losses are no evidence of anything. Here `MODELS` are made; put your
# own in their place. [docs/your-model.md](../docs/your-model.md) says all there is to say.

# %%
import copy
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import torch
from IPython.display import Image
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, ModernBertConfig, ModernBertForMaskedLM
from transformers.utils import logging

from mhc_repro import GainMonitor, eject, inject, parameter_groups
from mhc_repro.analysis.figures import training
from mhc_repro.analysis.theme import to_png
from mhc_repro.errors import UserError
from mhc_repro.evidence.comparison import read_studies
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.runs import read_run
from parts import gain_curves

logging.set_verbosity_error()
torch.set_num_threads(1)
torch.manual_seed(0)
TEXT = torch.tensor(list("\n".join(topics.values()).encode()))
CUT = 9 * len(TEXT) // 10  # what follows is held out
LENGTH, HIDDEN = 32, 256
RUNS = Path(tempfile.mkdtemp())  # a folder that you keep, for runs that you keep

no_words = {"bos_token_id": None, "eos_token_id": None, "cls_token_id": None, "sep_token_id": None}
MODELS = {
    "decoder": GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256, n_positions=LENGTH, n_embd=32, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
        )
    ),
    "encoder": ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=257,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            pad_token_id=HIDDEN,
            **no_words,
        )
    ),
}
BLOCKS = {"decoder": "GPT2Block", "encoder": "ModernBertEncoderLayer"}


def next_byte(model: torch.nn.Module, windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the loss of every next byte, in nats."""
    logits = model(windows[:, :-1]).logits
    return functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


def hidden_byte(model: torch.nn.Module, windows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the loss of the seventh or so of the bytes that are hidden, in nats."""
    hidden = torch.rand(windows.shape, generator=generator) < 0.15
    return functional.cross_entropy(
        model(windows.masked_fill(hidden, HIDDEN)).logits[hidden], windows[hidden]
    )


LOSS = {"decoder": next_byte, "encoder": hidden_byte}


def batch(text: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw windows of a text."""
    starts = torch.randint(0, len(text) - LENGTH, (count,), generator=generator).tolist()
    return torch.stack([text[at : at + LENGTH] for at in starts])


def train(
    kind: str,
    model: torch.nn.Module,
    steps: int,
    seed: int,
    groups: list | None = None,
    monitor: GainMonitor | None = None,
) -> None:
    """Train on the text up to CUT."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(groups or parameter_groups(model), lr=3e-3)
    model.train()
    for _ in range(steps):
        loss = LOSS[kind](model, batch(TEXT[:CUT], 8, generator), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if monitor:
            monitor.step(loss)


@torch.no_grad()
def held_out(kind: str, model: torch.nn.Module) -> float:
    """Return the loss on windows of the text behind CUT."""
    generator = torch.Generator().manual_seed(0)
    return LOSS[kind](model.eval(), batch(TEXT[CUT:], 64, generator), generator).item()


for kind, model in MODELS.items():
    before = held_out(kind, model)
    train(kind, model, 150, seed=0)
    print(f"{kind}: {before:.1f} -> {held_out(kind, model):.1f} nats a byte")

# %% [markdown]
# ## Inject
#
# Each of their blocks is x + F(x), with attention and MLP in its F. n = 4 streams start as copies of what the first
# block reads. Starts are moved so that the function stays what it was, which is checked on a sample before the
# model is given back.

# %%
SAMPLE = TEXT[None, :LENGTH]
variants = {kind: {"original": model} for kind, model in MODELS.items()}
for kind, model in MODELS.items():
    with torch.no_grad():
        expected = model.eval()(SAMPLE).logits
        for arm in ("hc", "mhc"):
            injected = inject(copy.deepcopy(model), BLOCKS[kind], arm, n=4, sample=SAMPLE)
            off = (injected(SAMPLE).logits - expected).abs().max() / expected.abs().max()
            more = sum(p.numel() for p in injected.parameters()) - sum(p.numel() for p in model.parameters())
            print(
                f"{kind}, {arm}: outputs differ by less than 1e-5: {bool(off < 1e-5)}; {more:,} parameters more"
            )
            variants[kind][arm] = injected

# %% [markdown]
# What cannot be kept is refused, and the model left alone:

# %%
try:
    inject(copy.deepcopy(MODELS["decoder"]), "GPT2Block", "mhc_warm", sample=SAMPLE)
except UserError as error:
    print(str(error).partition(": ")[2].partition(": ")[2])

# %% [markdown]
# ## Train on, and measure
#
# All see the same batches. The gains are those of the maps that each training step applied: HC's are free to leave
# 1, mHC's forward gains are not. The connections learn ten times as fast as the body here, so that something is to
# be seen in so few steps.

# %%
for kind, models in variants.items():
    for name, model in models.items():
        if name == "original":
            train(kind, model, 80, seed=1)
            print(f"{kind}, {name}: {held_out(kind, model):.1f} nats a byte")
            continue
        groups = parameter_groups(model, lr=3e-3, connection_lr=10)
        with GainMonitor(model, every=5, out=str(RUNS / kind), name=name) as monitor:
            train(kind, model, 80, 1, groups, monitor)
        run = read_run(monitor.path)
        forward = run.metrics["gain/composite_forward"].max()
        found = ", ".join(sum(verdict(run)[:3], ())) or "nothing"
        print(
            f"{kind}, {name}: {held_out(kind, model):.1f} nats a byte; forward gain stays at 1: {forward < 1.001}; "
            f"the guards found {found}"
        )

# %%
studies = read_studies(RUNS)
(decoder,), (encoder,) = studies["decoder"], studies["encoder"]
Image(to_png(gain_curves.over_training(decoder)))

# %%
Image(to_png(gain_curves.over_training(encoder)))

# %% [markdown]
# By sub-layer (here: by block) of the decoder, at the last probe, and faint the largest over training:

# %%
Image(to_png(training.gain_by_layer(decoder)))

# %% [markdown]
# ## Which way round is H_res applied?
#
# Public code has multiplied by the transpose, and a doubly stochastic matrix hides it. The monitor asks the
# streams. Here a function says the maps of the injected connections, once as they are and once transposed:

# %%
TOLD = RUNS / "told"


def straight(module, inputs, passed):
    """Return H_pre (T, n), H_post (T, n) and H_res (T, n, n), row i the weights of output stream i."""
    read, write, mix = passed.maps
    return read.T, write.T, mix.permute(2, 0, 1)


def transposed(module, inputs, passed):
    """Return the same, with H_res the wrong way round."""
    read, write, mix = straight(module, inputs, passed)
    return read, write, mix.mT


hc = variants["decoder"]["hc"]
for function in (straight, transposed):
    name = function.__name__
    adapters = {"HyperConnection": function}
    with GainMonitor(hc, every=5, out=str(TOLD), name=name, adapters=adapters) as monitor:
        monitor.say = print
        train("decoder", hc, 1, 0, monitor=monitor)
    print(f"told {name}: {', '.join(verdict(read_run(monitor.path)).applied_otherwise) or 'as it is'}")

# %% [markdown]
# ## Eject
#
# The blocks come back as they are now; what the connections learned is gone with them.

# %%
for kind, model in MODELS.items():
    back = eject(variants[kind]["mhc"])
    same = list(back.state_dict()) == list(model.state_dict())
    print(f"{kind}: the parameters of the original again: {same}")
