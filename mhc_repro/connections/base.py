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
    """What a sub-layer hands on: the streams, the maps it applied, and what its successor needs beside them."""

    streams: Tensor  # (B, T, n, C)
    maps: Maps  # of the B T tokens
    carry: Tensor | None = None


class Connection(nn.Module, ABC):
    """Reads n streams, lets the branch work on what it read, and mixes and writes."""

    n: int
    detached = False  # no gradient passes H_res: its backward gains are 0
    compiled = False  # training steps use compiled code, where there is some

    def gate_slope(self, maps: Maps) -> Tensor:
        """Return how far the gates are from saturation, 0 to 1; 1 where there are none."""
        return maps.read.new_ones(())

    def to_read(self, streams: Tensor, carry: Tensor | None) -> Tensor:
        """Return the state (B, T, n, C), or its share of a power of two, to which a norm is blind."""
        return streams

    def state(self, streams: Tensor, carry: Tensor | None) -> Tensor:
        """Return the state (B, T, n, C) that a sub-layer passed on: the streams, unless `carry` says otherwise."""
        return streams

    @abstractmethod
    def forward(
        self, streams: Tensor, branch: Callable[[Tensor], Tensor], carry: Tensor | None = None
    ) -> Passed:
        """Carry streams (B, T, n, C) past one sub-layer; `carry` is its predecessor's, None at the first."""
