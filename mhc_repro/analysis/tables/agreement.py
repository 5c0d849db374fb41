"""Other people's code beside the arms here at equal weights: what experiments/agreement.py measured, as a table."""

from pathlib import Path

import pandas as pd
from msgspec import Struct

from mhc_repro import reading
from mhc_repro.analysis import printed
from mhc_repro.analysis.tables import cells
from mhc_repro.errors import UserError
from mhc_repro.runs import files

FILE = "agreement.json"  # under the results root
EMPTY = "Nothing measured yet: `python experiments/agreement.py` does it."
CAPTION = (
    "Largest difference over 256 random tokens, over the largest value, in float32 and at equal weights: of what a "
    "sub-layer reads (h), of what it passes on (X'), and of X' where the logits are thirty times as large (wide). "
    "The same numbers in another order of additions differ by 1e-7 to 1e-6."
)


class Row(Struct, forbid_unknown_fields=True):
    """One comparison."""

    code: str
    release: str
    arm: str
    read: float
    streams: float | None
    wide: float | None
    orientation: str


class Measured(Struct, forbid_unknown_fields=True):
    """The file."""

    torch: str
    measured: list[Row]


def read(root: Path) -> Measured | None:
    """Read what was measured, None if nothing was; UserError for a file that cannot be understood."""
    try:
        return reading.fit(files.opened(root / FILE), Measured)
    except FileNotFoundError:
        return None
    except reading.Unfit as unfit:
        raise UserError(
            f"{root.name}/{FILE}: {unfit}; restore it, or python experiments/agreement.py"
        ) from None


def part(root: Path) -> str:
    """Write a page's part."""
    found = read(root)
    if found is None:
        return EMPTY
    rows = [
        {
            "their code": each.code,
            "release": each.release or printed.DASH,
            "`connection=` here": f"`{each.arm}`",
            "h": _power(each.read),
            "X'": _power(each.streams),
            "X', wide": _power(each.wide),
            "H_res": each.orientation or printed.DASH,
        }
        for each in found.measured
    ]
    return f"{cells.markdown(pd.DataFrame(rows, dtype=object))}\n\n{CAPTION} *torch {found.torch}.*"


def _power(value: float | None) -> str:
    return printed.DASH if value is None else f"{value:.0e}".replace("e-0", "e-")
