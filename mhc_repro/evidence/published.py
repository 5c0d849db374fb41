"""Numbers quoted from others, as `experiments/published.yaml` has them, and what of a run here answers them."""

from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import yaml

from mhc_repro.errors import UserError
from mhc_repro.evidence.ledger import values
from mhc_repro.runs import Run, checkout

FILE = Path("experiments/published.yaml")


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
    """Numbers of one origin."""

    source: str
    setting: str
    quantities: list[Quoted]


def load() -> dict[str, Source]:
    """Read what is quoted; UserError when the file is not there or cannot be understood."""
    try:
        # BaseLoader keeps every number as the text it is quoted as: 25.40 is not 25.4
        content = yaml.load((checkout() / FILE).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        return {
            name: Source(
                entry["source"],
                entry["setting"],
                [_quantity(each, about) for each, about in entry["quantities"].items()],
            )
            for name, entry in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{FILE}: {' '.join(str(error).split())}; git checkout {FILE} restores it") from None


def _quantity(name: str, about: dict[str, Any]) -> Quoted:
    quoted = dict(about["values"])
    published = {arm: float(text.removeprefix("≈")) for arm, text in quoted.items()}
    return Quoted(name, tuple(about["fields"]), quoted, published)


def paper_gains() -> dict[str, float]:
    """Give the largest composite gain that the mHC paper reports, by arm."""
    return load()["paper"].quantities[0].published
