"""Numbers quoted from others, as `experiments/published.yaml` has them, and what of a run here answers them."""

from math import isnan, nan
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field, structs

from mhc_repro import reading
from mhc_repro.errors import unusable
from mhc_repro.evidence.chosen import main_arms
from mhc_repro.evidence.kept import kept
from mhc_repro.evidence.ledger import LEDGER, values
from mhc_repro.runs import Run

FILE = Path("experiments/published.yaml")
# by study, the column of our value, and of the verdict if one is due
Columns = dict[str, Annotated[list[str], Meta(min_length=1, max_length=2)]]


class Quoted(Struct, forbid_unknown_fields=True):
    """A row of numbers that somebody published, and what of ours answers it."""

    place: str
    what: str
    fields: Annotated[list[str], Meta(min_length=1)]  # of the ledger
    quoted: dict[str, str] = field(name="values")  # by arm, digit for digit
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers of other arms, and what the ledger does not have."""
        if set(self.published) != set(main_arms()):
            raise ValueError(f"values must be of {', '.join(main_arms())}")
        if not set(self.fields) <= set(LEDGER):
            raise ValueError(f"fields must be some of {', '.join(LEDGER)}")

    @property
    def published(self) -> dict[str, float]:
        """Read the numbers, by arm."""
        return {arm: float(text.removeprefix("≈")) for arm, text in self.quoted.items()}

    def of(self, run: Run) -> float:
        """Give ours: the largest of the fields, NaN when one is missing."""
        ours = [values(run)[name] for name in self.fields]
        return nan if any(map(isnan, ours)) else max(ours)


class Source(Struct, forbid_unknown_fields=True):
    """Numbers of one origin, and how they are shown beside ours."""

    title: str
    columns: Columns
    judged: Literal["values", "order"]  # values and their order, or that alone
    caption: str
    source: str
    setting: str
    quantities: Annotated[dict[str, Any], Meta(min_length=1)]  # each is read as Quoted, by its name


class Sources(Struct, forbid_unknown_fields=True):
    """The file."""

    reproduction: Source
    paper: Source


def load() -> dict[str, Source]:
    """Read what is quoted; UserError when the file is not there or cannot be understood."""
    found: dict[str, Source] = structs.asdict(kept(FILE, Sources, texts=True))  # as quoted: 25.40 is not 25.4
    for source in found.values():
        try:
            rows = reading.fit(source.quantities, dict[str, Quoted])
        except reading.Unfit as unfit:
            raise unusable(FILE, str(unfit)) from None
        source.quantities = {name: structs.replace(row, name=name) for name, row in rows.items()}
        source.caption = source.caption.replace("{source}", source.source).replace(
            "{setting}", source.setting
        )
    return found


def paper_gains() -> dict[str, float]:
    """Give the largest composite gain that the mHC paper reports, by arm."""
    first: Quoted = next(iter(load()["paper"].quantities.values()))
    return first.published
