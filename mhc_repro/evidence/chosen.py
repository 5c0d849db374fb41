"""Which studies and arms are singled out by name, as `experiments/chosen.yaml` says it; no module knows one."""

from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from mhc_repro.evidence.kept import kept

FILE = Path("experiments/chosen.yaml")
Three = tuple[str, str, str]


class Chosen(Struct, forbid_unknown_fields=True):
    """The file."""

    main: Three
    main_of: dict[str, Three]
    controls: dict[str, str]  # by the word for it in a table
    settings: list[str]
    arms: Annotated[dict[str, str], Meta(min_length=2)]  # labels
    read: list[str]
    demonstrations: list[str]
    apart: list[str]
    drawn: dict[str, list[str]]


@cache
def chosen() -> Chosen:
    """Read what is chosen; UserError when the file cannot be understood."""
    return kept(FILE, Chosen)


def main_arms(study: str = "") -> Three:
    """Return the three arms that a study is about: a reference, and two that are set against it and each other."""
    return chosen().main_of.get(study, chosen().main)
