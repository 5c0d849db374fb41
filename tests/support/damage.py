"""Ways in which a file may not be what it was written as."""

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from mhc_repro.runs import files

READ = {"status.json": json.loads, "manifest.json": json.loads, "config.yaml": yaml.safe_load}
DEEP = "deep"  # stands for a value that is nested deeper than any parser goes
GONE, NEW = "gone", "new"
WRONG = (None, True, -1, 0.5, 10**30, -1e300, "x", "1", "", [], [[None]], {}, {"x": [1]}, DEEP)
OPEN, CLOSE = b"[" * 100_000, b"]" * 100_000
NO_VALUES = (b"", b"\0" * 9, b"[", b"null", b"1", b"1e999", OPEN, b"\xff\xfe", b'"\\ud800"', b"{1: 2}")


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the way to everything in a document: keys and indices."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*above, key)
        yield from places(value[key], (*above, key))


def mutants(document: Any, count: int | None = None) -> Iterator[tuple[str, Any]]:
    """Name and make documents in which one thing has another type, is gone, or is new: all, or some."""
    changes = [(place, wrong) for place in places(document) for wrong in (*WRONG, GONE, NEW)]
    for place, wrong in (
        changes if count is None else random.Random(0).sample(changes, min(count, len(changes)))
    ):
        changed = copy.deepcopy(document)
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        if wrong is GONE:
            del parent[place[-1]]
        elif wrong is not NEW:
            parent[place[-1]] = wrong
        elif isinstance(parent, dict):
            parent[f"{place[-1]}_too"] = parent[place[-1]]
        yield f"{'.'.join(map(str, place))} = {wrong!r}", changed


def as_json(value: Any) -> bytes:
    """Write JSON, with what is DEEP."""
    return json.dumps(value).encode().replace(b'"deep"', OPEN + CLOSE)


def as_sealed(value: dict[str, Any]) -> bytes:
    """Write JSON that vouches for what it holds, whoever wrote it."""
    return as_json(value | {files.SEAL: files.seal(value)})


def as_yaml(value: Any) -> bytes:
    """Write YAML, with what is DEEP."""
    text = yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    return text.encode().replace(b": deep\n", b": " + OPEN + CLOSE + b"\n")


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def _instead(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        path.unlink()
        make(path)

    return put


NO_FILES = {
    "a pipe": _instead(os.mkfifo),
    "a folder": _instead(Path.mkdir),
    "a loop": _instead(lambda path: path.symlink_to(path)),
    "a dead link": _instead(lambda path: path.symlink_to("nowhere")),
    "a device": _instead(lambda path: path.symlink_to("/dev/zero")),
}
