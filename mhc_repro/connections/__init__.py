"""The thing under study: how a sub-layer reads, mixes and writes the residual streams.

`build` is the one seam; what it makes is a `Connection`, of one of five kinds.
"""

from typing import NamedTuple

from mhc_repro.config import ConnectionConfig
from mhc_repro.connections.base import Carry, Connection, Maps, Passed
from mhc_repro.connections.ends import Reduction, expand, make_expansion, make_reduction
from mhc_repro.connections.gated import GatedConnection
from mhc_repro.connections.history import HistoryConnection, make_history
from mhc_repro.connections.hyper import HyperConnection, make_form
from mhc_repro.connections.outputs import OutputsConnection, make_reads
from mhc_repro.connections.residual import ResidualConnection
from mhc_repro.connections.symmetry import exchangeable

__all__ = [
    "Carry",
    "Connection",
    "Maps",
    "Nature",
    "Passed",
    "Reduction",
    "build",
    "check",
    "expand",
    "make_expansion",
    "make_reduction",
    "nature",
]


class Nature(NamedTuple):
    """What is true of an arm by construction, whatever it learns."""

    doubly_stochastic: bool  # rows and columns of H_res are meant to sum to 1
    exchangeable: bool  # nothing tells the streams apart at the start


def check(config: ConnectionConfig) -> None:
    """Raise UserError where `connection.mixing` names a form or a field that does not exist, or does not fit."""
    if config.kind == "streams":
        make_form(config)
    if config.kind == "history":
        make_history(config)
    if config.kind == "outputs":
        make_reads(config)


def nature(config: ConnectionConfig) -> Nature:
    """Say what a verdict must know of an arm and no measurement can tell."""
    if config.kind == "gated":
        return Nature(False, config.read_start[0] == config.read_start[1] and config.n > 1)
    if config.kind != "streams":
        return Nature(False, False)
    form = make_form(config)
    return Nature(form.mixing.doubly_stochastic, exchangeable(config, form))


def build(config: ConnectionConfig, layer: int, dim: int) -> Connection:
    """Make the connection of sub-layer `layer` (from 0) at its documented start, drawing nothing at random."""
    if config.kind == "residual":
        return ResidualConnection(config.branch_scale)
    if config.kind == "history":
        return HistoryConnection(config, layer)
    if config.kind == "outputs":
        return OutputsConnection(config, layer, dim)
    if config.kind == "gated":
        return GatedConnection(config, layer, dim)
    return HyperConnection(config, layer, dim)
