"""How H_res is parametrised: numbers per token -> the n x n matrix that mixes the streams.

A published variant is one more `Mixing` in one of these files and one line in MIXINGS (experiments/README.md lists
what else makes it an arm); its fields are what `connection.mixing` in its YAML may hold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any

from mhc_repro.connections.mixing.base import Mixing
from mhc_repro.connections.mixing.divided import SignedRows, Spectral
from mhc_repro.connections.mixing.kronecker import Kronecker
from mhc_repro.connections.mixing.orthogonal import BlockOrthostochastic, Orthogonal, Orthostochastic
from mhc_repro.connections.mixing.permutations import MeanPermutations, Permutations
from mhc_repro.connections.mixing.plain import Free, Identity, RandomMixing, Uniform
from mhc_repro.connections.mixing.rotations import Quaternions, SignedSums
from mhc_repro.connections.mixing.scaled import (
    ColumnStochastic,
    IdentityMix,
    RowStochastic,
    Sinkhorn,
    SwitchedMarginals,
)
from mhc_repro.connections.mixing.transport import Transport
from mhc_repro.errors import UserError
from mhc_repro.reading import Unfit, fit
from mhc_repro.words import assignment

__all__ = ["MIXINGS", "Mixing", "make_mixing"]

MIXINGS: dict[str, type[Mixing]] = {
    "identity": Identity,
    "free": Free,
    "spectral": Spectral,
    "signed_rows": SignedRows,
    "uniform": Uniform,
    "random": RandomMixing,
    "sinkhorn": Sinkhorn,
    "row_stochastic": RowStochastic,
    "column_stochastic": ColumnStochastic,
    "switched_marginals": SwitchedMarginals,
    "identity_mix": IdentityMix,
    "permutations": Permutations,
    "mean_permutations": MeanPermutations,
    "kronecker": Kronecker,
    "transport": Transport,
    "orthogonal": Orthogonal,
    "quaternions": Quaternions,
    "signed_sums": SignedSums,
    "block_orthostochastic": BlockOrthostochastic,
    "orthostochastic": Orthostochastic,
}


def make_mixing(settings: Mapping[str, Any], n: int) -> Mixing:
    """Make the parametrisation that `connection.mixing` names; UserError for what it does not know."""
    return make_kind(settings, MIXINGS, n)


def make_kind(settings: Mapping[str, Any], kinds: Mapping[str, type], n: int) -> Any:
    """Make the one of `kinds` that `settings` names, from its own fields; UserError for any other."""
    settings = dict(settings)
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        told = assignment("connection.mixing.kind", kind)
        raise UserError(f"{told}: {_allowed('choose one of', str(kind), kinds)}")
    known = {f.name: f for f in fields(kinds[kind]) if f.init and f.name != "n"}
    for name, value in settings.items():
        told = assignment(f"connection.mixing.{name}", value)
        if name not in known:
            raise UserError(f"{told}: {_allowed(f'connection.mixing of kind {kind} has', name, known)}")
        if not _fits(value, known[name].type):
            usual = assignment(f"connection.mixing.{name}", known[name].default)
            raise UserError(f"{told}: must be finite and of the form of its default, {usual}")
    hashable = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return kinds[kind](n=n, **hashable)


def _fits(value: object, kind: Any) -> bool:
    try:
        made = fit(value, kind)
    except Unfit:
        return False
    numbers = made if isinstance(made, tuple) else (made,)
    return not any(isinstance(each, float) and not isfinite(each) for each in numbers)


def _allowed(what: str, value: str, allowed: Iterable[str]) -> str:
    near = get_close_matches(value, list(allowed), n=1)
    return f"{what} {', '.join(allowed) or 'no fields'}" + (f"; did you mean {near[0]}?" if near else "")
