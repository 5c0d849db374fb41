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
# A GPT-2 of Hugging Face's `transformers`, small and from a random start, is trained on this repository's licence.
# Then connections are injected into it without changing its function, it is trained on beside the original, and its
# amax gains are read as those of any run. It takes seconds, so the losses are no evidence of anything. Here `MODEL`
# is made; put your own in its place. [docs/your-model.md](../docs/your-model.md) says all there is to say.

# %%
import copy
import tempfile
from pathlib import Path

import torch
from IPython.display import Image
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel
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
TEXT = torch.tensor(list(Path("../LICENSE").read_bytes()))
RUNS = Path(tempfile.mkdtemp())  # a folder that you keep, for runs that you keep

config = GPT2Config(
    vocab_size=256, n_positions=32, n_embd=32, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0
)
MODEL = GPT2LMHeadModel(config)


def train(
    model: GPT2LMHeadModel, steps: int, groups: list | None = None, monitor: GainMonitor | None = None
) -> float:
    """Train on windows of the text; return the mean loss of the last ten steps, in nats a byte."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(groups or parameter_groups(model), lr=3e-3)
    losses = []
    for _ in range(steps):
        starts = torch.randint(0, len(TEXT) - 33, (8,), generator=generator).tolist()
        tokens = torch.stack([TEXT[at : at + 33] for at in starts])
        loss = functional.cross_entropy(model(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if monitor:
            monitor.step(loss)
    return sum(losses[-10:]) / len(losses[-10:])


print(f"trained to {train(MODEL, 40):.1f} nats a byte")

# %% [markdown]
# ## Inject
#
# Each `GPT2Block` is x + F(x), with attention and MLP in its F. n = 4 streams start as copies of what the first
# block reads. Starts are moved so that the function stays what it was, which is checked on a sample before the
# model is given back.

# %%
sample = TEXT[None, :32]
models = {"original": MODEL}
for arm in ("hc", "mhc"):
    models[arm] = inject(copy.deepcopy(MODEL), "GPT2Block", arm, n=4, sample=sample)
with torch.no_grad():
    outputs = {name: model.eval()(sample).logits for name, model in models.items()}
for arm in ("hc", "mhc"):
    off = (outputs[arm] - outputs["original"]).abs().max() / outputs["original"].abs().max()
    added = sum(p.numel() for p in models[arm].parameters()) - sum(p.numel() for p in MODEL.parameters())
    print(f"{arm}: outputs differ by less than 1e-5: {bool(off < 1e-5)}; {added:,} parameters more")

# %% [markdown]
# What cannot be kept is refused, and the model left alone:

# %%
try:
    inject(copy.deepcopy(MODEL), "GPT2Block", "mhc_warm", sample=sample)
except UserError as error:
    print(str(error).partition(": ")[2].partition(": ")[2])

# %% [markdown]
# ## Train on, and measure
#
# The gains are those of the maps that each training step applied: HC's are free to leave 1, mHC's forward gains are
# not. The connections learn ten times as fast as the body here, so that something is to be seen in so few steps.

# %%
for name, model in models.items():
    model.train()
    if name == "original":
        print(f"{name}: {train(model, 30):.1f} nats a byte")
        continue
    groups = parameter_groups(model, lr=3e-3, connection_lr=10)
    with GainMonitor(model, every=5, out=str(RUNS / "mine"), name=name) as monitor:
        loss = train(model, 30, groups, monitor)
    run = read_run(monitor.path)
    last = run.metrics.dropna(subset="gain/composite_forward").iloc[-1]
    forward, backward = last["gain/composite_forward"], last["gain/composite_backward"]
    found = ", ".join(verdict(run).dead + verdict(run).off_the_constraint) or "nothing"
    print(
        f"{name}: {loss:.1f} nats a byte; forward gain 1: {abs(forward - 1) < 1e-3}; the guards found {found}"
    )

# %%
(study,) = read_studies(RUNS)["mine"]
Image(to_png(gain_curves.over_training(study)))

# %% [markdown]
# By sub-layer (here: by block), at the last probe, and faint the largest over training:

# %%
Image(to_png(training.gain_by_layer(study)))

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


for function in (straight, transposed):
    name = function.__name__
    adapters = {"HyperConnection": function}
    with GainMonitor(models["hc"], every=5, out=str(TOLD), name=name, adapters=adapters) as monitor:
        monitor.say = print
        train(models["hc"], 1, monitor=monitor)
    print(f"told {name}: {', '.join(verdict(read_run(monitor.path)).off_the_constraint) or 'as it is'}")

# %% [markdown]
# ## Eject
#
# The blocks come back as they are now; what the connections learned is gone with them.

# %%
back = eject(models["mhc"])
print(type(back.transformer.h[0]).__name__, list(back.state_dict()) == list(MODEL.state_dict()))
