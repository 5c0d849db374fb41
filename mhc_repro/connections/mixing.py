"""How H_res is parametrised: numbers per token -> the n x n matrix that mixes the streams.

Each class says how many numbers a token needs (`size`), where their static part b_res starts
(`initial`), and how they become the matrix (`matrix`, tokens last: (size, ...) -> (n, n, ...)).
A published variant is one more class here and one line in MIXINGS; its fields are what
`connection.mixing` in its YAML may hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, Protocol

import torch
from torch import Tensor

from mhc_repro.connections.sinkhorn import sinkhorn
from mhc_repro.errors import UserError


class Mixing(Protocol):
    """A parametrisation of H_res for n streams."""

    n: int

    @property
    def size(self) -> int: ...

    def initial(self) -> Tensor: ...

    def matrix(self, logits: Tensor) -> Tensor: ...


def _off_and_diagonal(n: int, start: tuple[float, float]) -> Tensor:
    off, diagonal = start
    return (off + (diagonal - off) * torch.eye(n, dtype=torch.float64)).flatten()


@dataclass(frozen=True)
class Identity:
    """H_res = I, nothing to learn: the control that isolates mixing."""

    n: int

    @property
    def size(self) -> int:
        return 0

    def initial(self) -> Tensor:
        return torch.zeros(0, dtype=torch.float64)

    def matrix(self, logits: Tensor) -> Tensor:
        eye = torch.eye(self.n, dtype=logits.dtype, device=logits.device)
        return eye[..., None].expand(self.n, self.n, logits.shape[-1])


@dataclass(frozen=True)
class Free:
    """H_res = the numbers themselves (HC, arXiv 2409.19606; mHC paper Eq. 5): no constraint."""

    n: int
    start: tuple[float, float] = (0.0, 1.0)  # [off the diagonal, on it]

    @property
    def size(self) -> int:
        return self.n**2

    def initial(self) -> Tensor:
        return _off_and_diagonal(self.n, self.start)

    def matrix(self, logits: Tensor) -> Tensor:
        return logits.unflatten(0, (self.n, self.n))


@dataclass(frozen=True)
class Sinkhorn:
    """H_res = SK(logits), doubly stochastic up to truncation (mHC, arXiv 2512.24880, Eq. 8-9)."""

    n: int
    start: tuple[float, float] = (-3.0, 3.0)  # App. A.6: 6 I - 3
    iterations: int = 20

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(
                f"connection.mixing.iterations={self.iterations} must be 1 or more; "
                "the paper's is connection.mixing.iterations=20"
            )

    @property
    def size(self) -> int:
        return self.n**2

    def initial(self) -> Tensor:
        return _off_and_diagonal(self.n, self.start)

    def matrix(self, logits: Tensor) -> Tensor:
        return sinkhorn(logits.unflatten(0, (self.n, self.n)), self.iterations)


MIXINGS: dict[str, type] = {"identity": Identity, "free": Free, "sinkhorn": Sinkhorn}


def make_mixing(settings: Mapping[str, Any], n: int) -> Mixing:
    """Make the parametrisation that `connection.mixing` names; UserError for what it does not know."""
    settings = dict(settings)
    kind = settings.pop("kind", None)
    if kind not in MIXINGS:
        raise UserError(_unknown("connection.mixing.kind", kind, list(MIXINGS)))
    known: dict[str, Any] = {f.name: f.default for f in fields(MIXINGS[kind]) if f.name != "n"}
    for name, value in settings.items():
        if name not in known:
            raise UserError(_unknown(f"a field of connection.mixing (kind={kind})", name, list(known)))
        if not _is_like(value, known[name]):
            example = str(list(known[name]) if isinstance(known[name], tuple) else known[name])
            raise UserError(
                f"connection.mixing.{name}={value}: must be of the kind of its default, "
                f"connection.mixing.{name}={example.replace(' ', '')}"
            )
    hashable = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return MIXINGS[kind](n=n, **hashable)


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(default)
            and all(map(_is_like, value, default))
        )
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return isfinite(value)
    return type(value) is type(default)


def _unknown(what: str, value: object, allowed: list[str]) -> str:
    near = get_close_matches(str(value), allowed, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{value!r} is not {what}; allowed: {', '.join(allowed) or 'none'}{hint}"
