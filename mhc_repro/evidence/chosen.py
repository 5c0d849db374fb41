"""Which studies and arms are singled out by name, as `experiments/chosen.yaml` says it; no module knows one."""

from functools import cache
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from mhc_repro.evidence.kept import kept

FILE = Path("experiments/chosen.yaml")
Arms = Annotated[tuple[str, ...], Meta(min_length=2)]


class Chosen(Struct, forbid_unknown_fields=True):
    """The file."""

    main: tuple[str, str, str]
    main_of: dict[str, Arms]
    controls: dict[str, str]  # by the word for it in a table
    settings: list[str]
    arms: Arms
    read: list[str]
    demonstrations: list[str]
    apart: list[str]
    drawn: dict[str, list[str]]


@cache
def chosen() -> Chosen:
    """Read what is chosen; UserError when the file cannot be understood."""
    return kept(FILE, Chosen)


def main_arms(study: str = "") -> tuple[str, ...]:
    """Return the arms that a study is about, the reference first: of most three, a baseline and two arms."""
    return chosen().main_of.get(study, chosen().main)
