"""Which studies and arms are singled out by name, as `experiments/chosen.yaml` says it; no module knows one."""

from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from mhc_repro.evidence.kept import kept

FILE = Path("experiments/chosen.yaml")
Two = tuple[str, str]
Three = tuple[str, str, str]


class Controls(Struct, forbid_unknown_fields=True):
    """Arms by the word for each in a table."""

    identity: str
    quarter: str


class Chosen(Struct, forbid_unknown_fields=True):
    """The file."""

    main: Three
    main_of: dict[str, Three]
    two_of: dict[str, Two]
    controls: Controls
    settings: list[str]
    arms: Annotated[list[str], Meta(min_length=2)]
    read: list[str]
    demonstrations: list[str]
    apart: list[str]
    drawn: dict[str, list[str]]


@cache
def chosen() -> Chosen:
    """Read what is chosen; UserError when the file cannot be understood."""
    return kept(FILE, Chosen)


def main_arms(study: str = "") -> tuple[str, ...]:
    """Return the arms that a study is about, a reference and one or two that are set against it and each other."""
    return chosen().two_of.get(study) or chosen().main_of.get(study, chosen().main)
