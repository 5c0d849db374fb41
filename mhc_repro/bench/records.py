"""What the bench keeps: one JSON file a record, in `bench/` under the results root, named by date and processor.

The newest of a kind counts, in the order of the names, so that what is made of them depends on the files alone.
No torch here: the report reads records too.
"""

import json
import re
from pathlib import Path
from typing import Any

from mhc_repro.errors import UserError
from mhc_repro.runs import files

SCHEMA_VERSION = 1
FOLDER = "bench"
# What the name of a record ends in: by dim, n and tokens; of many arms.
SCALING, ALL_ARMS = "-scaling", "-arms"
FEW = 8  # arms that the README's table of costs can hold

Record = dict[str, Any]


def save(record: Record, root: Path) -> str:
    """Keep a record under the results root; return where, as seen from there."""
    slug = re.sub(r"[^a-z0-9]+", "-", record["fingerprint"]["cpu"].lower()).strip("-")
    kind = SCALING if "points" in record else ALL_ARMS if len(record["connections"]) > FEW else ""
    name = f"{FOLDER}/{record['date']}-{slug}{kind}.json"
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    files.write_json(root / name, record)
    return f"{root.name}/{name}"


def newest(root: Path, kind: str = "") -> Record | None:
    """Read the newest record of a kind, None when there is none; UserError for one of another schema."""

    def is_of_kind(path: Path) -> bool:
        return next((each for each in (SCALING, ALL_ARMS) if path.stem.endswith(each)), "") == kind

    names = sorted(filter(is_of_kind, (root / FOLDER).glob("*.json")))
    return read(names[-1]) if names else None


def read(path: Path) -> Record:
    """Read a record; UserError for one of another schema."""
    try:
        record = json.loads(path.read_bytes())
        if record["schema_version"] == SCHEMA_VERSION:
            return record
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"{path.parents[1].name}/{FOLDER}/{path.name}: no bench record of this version; delete it, then make bench"
    )
