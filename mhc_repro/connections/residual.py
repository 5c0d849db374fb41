"""The plain residual connection, X' = X + F(X): the baseline every arm is compared with.

With a `branch_scale` of 1/n it is the function that the enwik8 reproduction's mHC arm computes.
"""

from collections.abc import Callable

from torch import Tensor

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.base import NOTHING, Carry, Connection, Maps, Passed
from mhc_repro.connections.wide import wide


class ResidualConnection(Connection):
    """One stream, added to; H_res is the number 1, so every composite gain is exactly 1."""

    n = 1

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__(config, layer, dim)
        self.branch_scale = config.branch_scale

    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Carry streams (B, T, 1, C) past one sub-layer; H_pre and H_res are 1, H_post is the branch's scale."""
        tokens = streams.shape[0] * streams.shape[1]
        one = wide(streams.new_ones(1, 1)).expand(1, tokens)
        maps = Maps(one, self.branch_scale * one, one[None])
        output = branch(streams.squeeze(2)).unsqueeze(2)
        if self.branch_scale != 1:
            output = self.branch_scale * output
        return Passed(streams + output, maps)
