"""Numbers quoted from others, as `experiments/published.yaml` has them, and what of a run here answers them."""

from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from mhc_repro import reading
from mhc_repro.errors import unusable
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.kept import kept
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.runs import Run

FILE = Path("experiments/published.yaml")


# by study, the column of our value, and of the verdict if one is due
Columns = dict[str, Annotated[list[str], Meta(min_length=1, max_length=2)]]


Judged = Literal["values", "order"]  # values and their order, or that alone


class Row(Struct, forbid_unknown_fields=True):
    """A quantity as the file has it."""

    place: str
    what: str
    fields: Annotated[list[str], Meta(min_length=1)]
    values: dict[str, str]


class Origin(Struct, forbid_unknown_fields=True):
    """A source as the file has it."""

    title: str
    columns: Columns
    judged: Judged
    caption: str
    source: str
    setting: str
    quantities: Annotated[dict[str, Any], Meta(min_length=1)]  # of Row


class Sources(Struct, forbid_unknown_fields=True):
    """The file."""

    reproduction: Origin
    paper: Origin


@dataclass(frozen=True)
class Quoted:
    """A row of numbers that somebody published, and what of ours answers it."""

    name: str
    fields: tuple[str, ...]  # of the ledger
    quoted: dict[str, str]  # by arm, digit for digit
    published: dict[str, float]

    def of(self, run: Run) -> float:
        """Give ours: the largest of the fields, NaN when one is missing."""
        ours = [values(run)[field] for field in self.fields]
        return nan if any(map(isnan, ours)) else max(ours)


@dataclass(frozen=True)
class Source:
    """Numbers of one origin, and how they are shown beside ours."""

    title: str
    caption: str
    columns: Columns
    judged: Judged
    quantities: list[Quoted]


def load() -> dict[str, Source]:
    """Read what is quoted; UserError when the file is not there or cannot be understood."""
    content = kept(FILE, Sources, texts=True)  # as it is quoted: 25.40 is not 25.4
    found = {}
    try:
        for name in Sources.__struct_fields__:
            origin = getattr(content, name)
            rows = reading.fit(origin.quantities, dict[str, Row])
            quantities = [_quantity(*each) for each in rows.items()]
            caption = origin.caption.replace("{source}", origin.source).replace("{setting}", origin.setting)
            found[name] = Source(origin.title, caption, origin.columns, origin.judged, quantities)
    except ValueError as error:
        raise unusable(FILE, str(error)) from None
    return found


def _quantity(name: str, row: Row) -> Quoted:
    published = {arm: float(text.removeprefix("≈")) for arm, text in row.values.items()}
    if set(published) != set(main_arms()):
        raise ValueError(f"{name}: values must be of {', '.join(main_arms())}")
    if not set(row.fields) <= set(LEDGER):
        raise ValueError(f"{name}: fields must be some of {', '.join(LEDGER)}")
    return Quoted(name, tuple(row.fields), row.values, published)


def paper_gains() -> dict[str, float]:
    """Give the largest composite gain that the mHC paper reports, by arm."""
    return load()["paper"].quantities[0].published
