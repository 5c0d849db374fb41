"""What memory cannot hold is a mistake of the user's: one line, before minutes are spent on building it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mhc_repro import world
from mhc_repro.config import Config, block_weights
from mhc_repro.errors import UserError

WORD = 4  # bytes, of the least that a number takes here
STATES = 4  # of a parameter: itself, its gradient, Adam's two means


def least(config: Config) -> int:
    """Return the bytes that a step of `config` needs whatever else it does: weights and logits, or streams."""
    model, data = config.model, config.data
    blocks = model.blocks * block_weights(model.dim, model.mlp_ratio)
    weights = STATES * (blocks + data.vocab * model.dim)
    tokens = data.batch // (config.runtime.accumulate * world.size()) * data.sequence
    return WORD * (weights + tokens * max(data.vocab, config.connection.n * model.dim))


def available(device: torch.device) -> int:
    """Return the bytes of memory behind `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def enough(config: Config, device: torch.device) -> Iterator[None]:
    """Raise UserError where the block cannot have the memory it asks for, or is sure to ask for too much."""
    size = (
        f"model.blocks={config.model.blocks} model.dim={config.model.dim} connection.n={config.connection.n} "
        f"data.batch={config.data.batch} data.sequence={config.data.sequence}"
    )
    wrong = UserError(f"{size}: more than the memory of this machine holds; choose less")
    if least(config) > available(device):
        raise wrong
    try:
        yield
    except MemoryError:
        raise wrong from None
    except RuntimeError as error:  # torch has no type of its own for it on a CPU
        if not re.search("allocate memory|out of memory|Storage size", str(error)):
            raise
        raise wrong from None
