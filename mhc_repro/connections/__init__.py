"""The thing under study: how a sub-layer reads, mixes and writes the residual streams.

`build` is the one seam. A connection is a module with `n` and
`forward(streams (B, T, n, C), branch) -> (streams, H_res (n, n, B T))`.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.hyper import HyperConnection
from mhc_repro.connections.mixing import make_mixing
from mhc_repro.connections.residual import ResidualConnection


class Connection(Protocol):
    """What the trunk asks of a connection."""

    n: int

    def __call__(self, streams: Tensor, branch: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]: ...


def check(config: ConnectionConfig) -> None:
    """Raise UserError where `connection.mixing` names a form or a field that does not exist."""
    if config.kind == "streams":
        make_mixing(config.mixing, config.n)


def build(config: ConnectionConfig, layer: int, dim: int) -> HyperConnection | ResidualConnection:
    """Make the connection of sub-layer `layer` (from 0) at its documented start, drawing nothing at random."""
    if config.kind == "residual":
        return ResidualConnection()
    return HyperConnection(config, layer, dim)


def expand(x: Tensor, n: int) -> Tensor:
    """Copy the embedding into n streams: (B, T, C) -> (B, T, n, C), once, before the trunk."""
    return x.unsqueeze(2).expand(-1, -1, n, -1).contiguous()


def reduce(streams: Tensor, how: str) -> Tensor:
    """Join the streams before the final norm: (B, T, n, C) -> (B, T, C); sum | mean."""
    return streams.sum(2) if how == "sum" else streams.mean(2)
