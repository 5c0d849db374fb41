"""What the trunk and the probe ask of the connection around one sub-layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mhc_repro.config import ConnectionConfig, ModelConfig


class Maps(NamedTuple):
    """The maps of one sub-layer for N tokens: H_pre (n, N), H_post (n', N), H_res (n', n, N).

    n' = n, but where a sub-layer adds a stream (connections/outputs.py): of it H_res has a row only if it is mixed.
    """

    read: Tensor
    write: Tensor
    mix: Tensor


class Carry(NamedTuple):
    """What a sub-layer hands to the next beside the streams, for N tokens; most arms nothing, which is false."""

    exponent: Tensor | None = None  # e (N,), integers, where the state is 2^e times the streams
    read: Tensor | None = None  # the H_pre (n, N) of the next sub-layer, or of the readout

    def __bool__(self) -> bool:
        return any(each is not None for each in self)


NOTHING = Carry()


class Passed(NamedTuple):
    """What a sub-layer hands on, and the maps that it applied."""

    streams: Tensor  # (B, T, n', C)
    maps: Maps  # of the B T tokens
    carry: Carry = NOTHING


class Nature(NamedTuple):
    """What is true of an arm by construction, whatever it learns: what a verdict must know and none can measure."""

    doubly_stochastic: bool = False  # rows and columns of H_res are meant to sum to 1
    exchangeable: bool = False  # nothing tells the streams apart at the start


class Cost(NamedTuple):
    """What a sub-layer's connection adds to a residual's, for a token."""

    flops: int = 0  # forward
    values: int = 0  # read and written, forward and backward


def decays(name: str) -> bool:
    """Say whether weight decay applies to a connection's parameter: to every phi; not to alpha, b or theta."""
    return name.endswith("phi")


class Connection(nn.Module, ABC):
    """Reads n streams, lets the branch work on what it read, and mixes and writes."""

    n: int
    detached = False  # no gradient passes H_res: its backward gains are 0
    compilable = False  # there is compiled code for it ...
    compiled = False  # ... which training steps use
    seeded_each_step = False  # torch is seeded anew each step: what is drawn is of that and the sub-layer

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__()
        self.config = config

    @cached_property
    def known(self) -> Nature:
        """What holds of this one by construction."""
        return self.nature(self.config)

    @classmethod
    def check(cls, config: ConnectionConfig) -> None:
        """Raise UserError where `connection.mixing` names what does not exist or does not fit."""

    @classmethod
    def nature(cls, config: ConnectionConfig) -> Nature:
        """Say what holds by construction."""
        return Nature()

    @classmethod
    def cost(cls, config: ConnectionConfig, model: ModelConfig) -> Cost:
        """Count the work, by kernels fused as in mHC Sec. 4.3.1; the n x n maps themselves are left out."""
        return Cost()

    def gate_slope(self, maps: Maps) -> Tensor:
        """Return how far the gates are from saturation, 0 to 1; 1 where there are none."""
        return maps.read.new_ones(())

    def draw(self, generator: torch.Generator) -> None:
        """Draw what starts at random: of most arms nothing."""

    def at(self, progress: float) -> None:
        """Take note of how much of the training is done, 0 to 1: to most arms it does not matter."""

    @abstractmethod
    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Carry streams (B, T, n, C) past one sub-layer; `carry` is what its predecessor handed on."""
