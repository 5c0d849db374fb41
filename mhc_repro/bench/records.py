"""What the bench keeps: one JSON file a record, in `bench/` under the results root.

Named by date, processor, GPU if any, threads and kind. Of a kind, a device and a number of threads the newest
counts, in the order of the names, so that what is made of them depends on the files alone; of many arms, the newest
that has an arm, so that new arms need no bench of the old. No torch here: the report reads records too.
"""

import os
import re
from pathlib import Path
from typing import Any

from mhc_repro import reading
from mhc_repro.errors import UserError
from mhc_repro.places import BENCH, checkout
from mhc_repro.runs import files

SCHEMA_VERSION = 1
# What the name of a record ends in: by dim, n and tokens; of many arms; of what watching costs.
SCALING, ALL_ARMS, MONITOR = "-scaling", "-arms", "-monitor"
FEW = 8  # arms that a table of costs can hold

Record = dict[str, Any]


def save(record: Record, root: Path) -> str:
    """Keep a record under the results root; return where, as seen from the checkout."""
    made = record["fingerprint"]
    chips = made["cpu"] if made["device"] == "cpu" else f"{made['cpu']} {made['device']}"
    slug = re.sub(r"[^a-z0-9]+", "-", chips.lower()).strip("-")
    kind = ALL_ARMS if len(record.get("connections", ())) > FEW else ""
    kind = SCALING if "points" in record else MONITOR if "monitored" in record else kind
    name = f"{BENCH}/{record['date']}-{slug}-{threads_text(record)}{kind}.json".replace(" ", "-")
    (root / BENCH).mkdir(parents=True, exist_ok=True)
    files.write_json(root / name, record)
    return os.path.relpath(root / name, checkout())


def newest(root: Path, kind: str = "") -> list[Record]:
    """Read the newest record of a kind for each device and number of threads; UserError for another schema."""
    return [records[-1] for records in by_place(root, kind)]


def by_place(root: Path, kind: str = "") -> list[list[Record]]:
    """Read the records of a kind for each device and number of threads, the newest last; UserError as above.

    The CPU's come first, then fewer threads before more.
    """
    paths = sorted((root / BENCH).glob(f"*{kind}.json"))
    found = [read(path) for path in paths if kind or not path.stem.endswith((SCALING, ALL_ARMS, MONITOR))]
    places: dict[tuple[bool, str, int], list[Record]] = {}
    for record in found:
        places.setdefault(_place(record["fingerprint"]), []).append(record)
    return [places[place] for place in sorted(places)]


def _place(made: dict[str, Any]) -> tuple[bool, str, int]:
    return made["device"] != "cpu", made["device"], made["threads"]


def threads_text(record: Record) -> str:
    """Say how many threads a record was measured with."""
    threads = record["fingerprint"]["threads"]
    return f"{threads} thread{'s' if threads > 1 else ''}"


def machine_text(record: Record) -> str:
    """Say what a record was measured on."""
    made = record["fingerprint"]
    return f"{made['cpu']} ({made['device']}), {threads_text(record)}, torch {made['torch']}"


def read(path: Path) -> Record:
    """Read a record; UserError for one of another schema, or that is not as it was written."""
    fault = f"no bench record of version {SCHEMA_VERSION}"
    try:
        record = files.opened(path)
        if record.get("schema_version") == SCHEMA_VERSION:
            return record
    except (FileNotFoundError, reading.Unfit) as unfit:
        fault = str(unfit)
    name = f"{path.parents[1].name}/{BENCH}/{path.name}"
    raise UserError(f"{name}: {fault}; restore it, or delete it, then make bench")
