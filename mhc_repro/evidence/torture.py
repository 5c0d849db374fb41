"""What came of the last `make torture`, which kills and damages runs on purpose: `torture.json` in results."""

from pathlib import Path
from typing import NotRequired, TypedDict

from mhc_repro.errors import UserError
from mhc_repro.runs import files
from mhc_repro.runs.records import Count, Seconds

FILE = "torture.json"
MUST_NOT_BE = ("wrong", "traceback")  # lost or believed; told in no line
ENDINGS = ("held", "told", *MUST_NOT_BE)  # as if nothing had been done; in one line and an exit code


class Tortured(TypedDict):
    """How often each part was tried, and how that ended."""

    date: str
    command: str
    commit: str
    dirty: bool | None
    diff_sha256: NotRequired[str | None]
    seed: Count
    seconds: Seconds
    cores: Count
    parts: dict[str, dict[str, Count]]


def count(root: Path, what: str) -> int | None:
    """Count the tries of a part, or an ending in all parts; None before the first record, UserError for neither."""
    record = files.read_json(root / FILE, Tortured)
    if record is None:
        return None
    parts = record["parts"]
    if what in ENDINGS:
        return sum(part.get(what, 0) for part in parts.values())
    if what not in parts:
        raise UserError(f"<!-- n:torture {what} -->: {FILE} has {', '.join([*parts, *ENDINGS])}")
    return sum(parts[what].values())
