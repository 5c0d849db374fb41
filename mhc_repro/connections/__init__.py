"""The thing under study: how a sub-layer reads, mixes and writes the residual streams.

`build` is the one seam; what it makes is a `Connection`, of one of KINDS.
"""

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.base import Carry, Connection, Maps
from mhc_repro.connections.ends import make_expansion, make_reduction
from mhc_repro.connections.gated import GatedConnection
from mhc_repro.connections.history import HistoryConnection
from mhc_repro.connections.hyper import HyperConnection
from mhc_repro.connections.outputs import OutputsConnection
from mhc_repro.connections.residual import ResidualConnection

__all__ = ["KINDS", "Carry", "Connection", "Maps", "build", "make_expansion", "make_reduction"]


# What `connection.kind` names; each makes, checks and counts its own.
KINDS: dict[str, type[Connection]] = {
    "residual": ResidualConnection,
    "streams": HyperConnection,
    "history": HistoryConnection,
    "outputs": OutputsConnection,
    "gated": GatedConnection,
}


def build(config: ConnectionConfig, layer: int, dim: int) -> Connection:
    """Make the connection of sub-layer `layer` (from 0) at its documented start, drawing nothing at random."""
    return KINDS[config.kind](config, layer, dim)
