"""Kill runs, fill disks, damage files and type nonsense; tell what was lost or believed: `make torture`.

The README takes its figures from the record. Exit code 1 when anything ended as it must not, or was not tried as
often as it should.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tabulate import tabulate

import around  # noqa: F401
import faults
from mhc_repro.command_line.entry import Parser, exit_code
from mhc_repro.cores import cores
from mhc_repro.evidence.torture import ENDINGS, MUST_NOT_BE
from mhc_repro.runs import files, manifest

GOALS = {
    "kills": 1000,
    "full disks": 100,
    "flipped bits": 200,
    "flipped bits resumed": 100,
    "documents": 100,
    "command lines": 1000,
}


def main(argv: Sequence[str]) -> int:
    """Torture, and print the table; return the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part, goal in GOALS.items():
        parser.add_argument(f"--{part.replace(' ', '-')}", dest=part, type=int, default=goal)
    parser.add_argument("--seconds", type=int, default=840, help="begin nothing after so many (default: 840)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep the figures there")
    return exit_code(lambda: _run(parser.parse_args(argv), argv))


def _run(options: argparse.Namespace, argv: Sequence[str]) -> int:
    began = time.monotonic()
    faults.load()
    import tries  # torch, in the process that has the faults

    goals = {part: getattr(options, part) for part in GOALS}
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        found = tries.run(Path(folder), goals, random.Random(options.seed), began + options.seconds)
    rows = [[part, ends.total(), *(ends[each] for each in ENDINGS)] for part, ends in found.items()]
    print(tabulate(rows, ["", "tried", *ENDINGS]))
    if options.record:
        record = {
            "date": datetime.now(UTC).date().isoformat(),
            "command": " ".join(["python tests/torture", *argv]),
            **manifest.code(),
            "seed": options.seed,
            "seconds": round(time.monotonic() - began),
            "cores": cores(),
            "parts": {part: {each: ends[each] for each in ENDINGS} for part, ends in found.items()},
        }
        files.write_json(options.record, record)
    short = [part for part, goal in goals.items() if found[part].total() < goal]
    print(*(f"{part}: not all tried" for part in short), sep="\n", end="\n" * bool(short))
    return int(bool(short) or any(ends[each] for ends in found.values() for each in MUST_NOT_BE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
