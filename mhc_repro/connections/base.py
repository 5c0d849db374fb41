"""What the trunk and the probe ask of the connection around one sub-layer."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn


class Connection(nn.Module, ABC):
    """Reads n streams, lets the branch work on what it read, and mixes and writes."""

    n: int
    detached = False  # no gradient passes H_res: its backward gains are 0
    compiled = False  # training steps use compiled code, where there is some

    def gate_slope(self, streams: Tensor) -> Tensor:
        """Return how far the gates are from saturation at streams (N, n, C), 0 to 1; 1 where there are none."""
        return streams.new_ones(())

    @abstractmethod
    def forward(self, streams: Tensor, branch: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Carry streams (B, T, n, C) past one sub-layer; also return H_res (n, n, B T)."""
