"""What the trunk and the probe ask of the connection around one sub-layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class Maps(NamedTuple):
    """The maps of one sub-layer for N tokens: H_pre (n, N), H_post (n, N), H_res (n, n, N)."""

    read: Tensor
    write: Tensor
    mix: Tensor


class Passed(NamedTuple):
    """What a sub-layer hands on: the streams, the maps it applied and, if the state is 2^e times the streams, e."""

    streams: Tensor  # (B, T, n, C)
    maps: Maps  # of the B T tokens
    exponent: Tensor | None = None  # (B T,), integers


class Connection(nn.Module, ABC):
    """Reads n streams, lets the branch work on what it read, and mixes and writes."""

    n: int
    detached = False  # no gradient passes H_res: its backward gains are 0
    compiled = False  # training steps use compiled code, where there is some

    def gate_slope(self, maps: Maps) -> Tensor:
        """Return how far the gates are from saturation, 0 to 1; 1 where there are none."""
        return maps.read.new_ones(())

    @abstractmethod
    def forward(
        self, streams: Tensor, branch: Callable[[Tensor], Tensor], exponent: Tensor | None = None
    ) -> Passed:
        """Carry streams (B, T, n, C) past one sub-layer; `exponent` as its predecessor passed it on."""
