"""The processes that torchrun started for one run: each has its part of every batch, rank 0 all the rest.

It decides what is done, measures, writes and speaks. The others hear from it where a run starts, take every step
with it, and end when it does. A process alone passes through here untouched.
"""

import atexit
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn

from mhc_repro import world
from mhc_repro.errors import UserError
from mhc_repro.training import stops
from mhc_repro.words import one_line

# Of those that wait while rank 0 measures; that one has died is noticed at once.
PATIENCE = timedelta(hours=2)
OVER = 1 << 10  # beyond every signal's number
SIGNS = re.compile(r"gloo|nccl|(closed|reset) by peer", re.IGNORECASE)

_told = False  # have the others heard of this run?


class Lost(Exception):
    """Another process of the run has died."""


class Start(NamedTuple):
    """From where, and how, all go on: rank 0's fingerprint, and its checkpoint if there is one."""

    fingerprint: dict[str, Any]
    state: dict[str, Any] | None


def connect(device: torch.device) -> None:
    """Join the others, once in a process."""
    global _told
    _told = False
    if world.size() == 1 or distributed.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except distributed.DistError as error:
        raise UserError(
            f"torchrun: its {world.size()} processes did not meet ({one_line(error)}); name a port that is free "
            "with --master-port="
        ) from None
    atexit.register(distributed.destroy_process_group)


@contextmanager
def leading() -> Iterator[None]:
    """Let the others go when the block, rank 0's work on a run, ends before it began to train."""
    try:
        yield
    finally:
        if not _told:
            tell(None)


def tell(start: Start | None) -> None:
    """Tell the others where the run starts; nothing: there is none to make."""
    global _told
    _told = True
    if world.size() > 1:
        with noticing():
            distributed.broadcast_object_list([start], device=torch.device("cpu"))


def told() -> Start | None:
    """Wait for what rank 0 tells."""
    heard: list[Start | None] = [None]
    with noticing():
        distributed.broadcast_object_list(heard, device=torch.device("cpu"))
    return heard[0]


def wrapped(model: nn.Module, tokens: Tensor) -> nn.Module:
    """Return the model whose backward pass averages gradients over all; rank 0's weights are everyone's.

    `tokens` are some of the shape of every step's.
    """
    parallel = nn.parallel.DistributedDataParallel(model)
    # Behind its first backward pass it lays out its buckets anew, and with them the order in which it adds three
    # numbers or more: that pass is made here, or the first step of a resumed run would differ.
    parallel(tokens).sum().backward()
    model.zero_grad()
    return parallel


def alone(net: nn.Module, more: bool) -> AbstractContextManager[None]:
    """Keep gradients to this process while there are `more` to be added to them."""
    if more and isinstance(net, nn.parallel.DistributedDataParallel):
        return net.no_sync()
    return nullcontext()


def mean(value: Tensor) -> Tensor:
    """Average a tensor over all processes, in place."""
    if world.size() > 1:
        distributed.all_reduce(value)
        value /= world.size()
    return value


def end(over: bool = False) -> bool:
    """Say whether all end after this step: rank 0 is through, or one of them was asked to stop, and so all are.

    What asks one of them while they agree counts a step later: or it would leave, and the others wait for it.
    """
    why = OVER if over else stops.asked_by()
    if world.size() > 1:
        agreed = torch.tensor(why)
        distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
        why = int(agreed)
        if 0 < why < OVER:
            stops.ask(why)
    return why > 0


@contextmanager
def noticing() -> Iterator[None]:
    """Raise Lost where one of the others is not there any more; torch has no type of its own for it on a CPU."""
    try:
        yield
    except RuntimeError as error:
        if world.size() > 1 and SIGNS.search(str(error)):
            raise Lost from None
        raise
