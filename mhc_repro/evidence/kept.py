"""What is kept by hand beside the code and stands in the report: claims, numbers that others published."""

from pathlib import Path
from typing import TypeVar

from mhc_repro import reading
from mhc_repro.errors import unusable
from mhc_repro.places import checkout

T = TypeVar("T")


def kept(file: Path, kind: type[T], texts: bool = False) -> T:
    """Read a YAML file of the checkout as a `kind`, or UserError; `texts` as in `reading.from_yaml`."""
    try:
        return reading.fit(reading.from_yaml(reading.read(checkout() / file), texts), kind)
    except FileNotFoundError:
        raise unusable(file, "no such file") from None
    except reading.Unfit as unfit:
        raise unusable(file, str(unfit)) from None
