"""The files of the arms, read without Hydra: what is known of each (`about`), and its settings.

A file each in conf/connection or, installed, beside the code. `about` is no setting: no run and no run id knows it.
Settings that arms share stand in shared/, where Hydra's `defaults` of a file lead.
"""

import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

from mhc_repro import reading
from mhc_repro.errors import UserError, unusable

PACKAGE = Path(__file__).resolve().parent
FOLDERS = (PACKAGE / "arms", PACKAGE.parent / "conf" / "connection")  # of a wheel, of a checkout
# In the order of every table and figure; within one the arms are in that of their names.
FAMILIES = {
    "control": "Controls, which take something away",
    "hc": "HC, and H_res without a doubly stochastic constraint",
    "mhc": "mHC",
    "mhc start": "mHC from other starts, most of them in circulation",
    "exact": "Doubly stochastic by construction",
    "signed": "Orthogonal, or with entries of either sign",
    "other": "Other constraints",
    "history": "A mean of earlier states instead of streams",
    "beside": "Beside hyper-connections",
}
MARKERS = tuple("osD^v<>pPh*")  # of matplotlib; X says that a run diverged
LINES: dict[str, Any] = {  # linestyles of matplotlib
    "solid": "-",
    "long": (0, (5, 1.2)),
    "dashed": (0, (3, 1)),
    "dotted": (0, (1, 1)),
    "dash-dot": (0, (6, 1, 1, 1)),
    "dash-dots": (0, (5, 1, 1, 1, 1, 1)),
    "gaps": (0, (5, 2.5)),
}


class About(Struct, frozen=True, forbid_unknown_fields=True):
    """What an arm is by construction, at n = 4, how it is named and how it is drawn."""

    what: str
    family: str  # a range of colours
    label: str
    colour: str
    marker: str
    line: str
    start: str  # of H_res
    paper: str = ""
    constraint: str = "none"  # on H_res
    exact: bool | None = None  # met to rounding; null: there is none
    # Of the composite gain at any depth, forward and backward; null: none. Rows of entries >= 0 that sum to 1 stay
    # such in a product, so no column sum passes n.
    bound: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        """Refuse what no figure could show."""
        choices: dict[str, Collection[str]] = {"family": FAMILIES, "marker": MARKERS, "line": LINES}
        for field, allowed in choices.items():
            if (value := getattr(self, field)) not in allowed:
                raise ValueError(f"{field} {value!r} is none of {', '.join(allowed)}")
        if not re.fullmatch("#[0-9A-F]{6}", self.colour):
            raise ValueError(f"colour {self.colour!r} is not of the form '#0072B2'")


class _Heads(Struct):
    about: About | None = None
    defaults: tuple[str, ...] = ("_self_",)


def folder() -> Path:
    """Return the folder of the arms' files."""
    return next(each for each in FOLDERS if each.is_dir())


def arm_names() -> tuple[str, ...]:
    """Return the names of all arms, such as `hc` and `mhc`."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def settings(arm: str) -> dict[str, Any]:
    """Return the settings that an arm's file says or takes over; UserError where it cannot be read."""
    heads, own = _read(arm)
    found: dict[str, Any] = {}
    for each in heads.defaults:
        more = own if each == "_self_" else settings(each.partition("@")[0])
        mixing = {**found.get("mixing", {}), **more.get("mixing", {})}
        found |= more | ({"mixing": mixing} if mixing else {})
    return found


@cache
def abouts() -> dict[str, About]:
    """Return what is known of every arm that says it, in the order of tables; UserError for what does not fit.

    No two may share a label, or colour, marker and line.
    """
    found = {arm: about for arm in arm_names() if (about := _read(arm)[0].about)}
    seen: dict[object, str] = {}
    for arm, about in found.items():
        for look in (about.label, (about.colour, about.marker, about.line)):
            if (other := seen.setdefault(look, arm)) != arm:
                raise _wrong(arm, f"about: {look} is that of {other}, and the two would look the same")
    families = list(FAMILIES)
    return dict(sorted(found.items(), key=lambda each: (families.index(each[1].family), each[0])))


def understood(arm: str, about: object) -> None:
    """Raise UserError where what the file of `arm` says about it does not fit."""
    try:
        reading.fit({"about": about}, _Heads)
    except reading.Unfit as unfit:
        raise _wrong(arm, str(unfit)) from None


def _read(arm: str) -> tuple[_Heads, dict[str, Any]]:
    try:
        whole = reading.from_yaml(reading.read(folder() / f"{arm}.yaml"))
        heads = reading.fit(whole, _Heads)
        return heads, {key: value for key, value in whole.items() if key not in _Heads.__struct_fields__}
    except FileNotFoundError:
        raise _wrong(arm, "no such file") from None
    except reading.Unfit as unfit:
        raise _wrong(arm, str(unfit)) from None


def _wrong(arm: str, why: str) -> UserError:
    return unusable(Path("conf/connection") / f"{arm}.yaml", why)
