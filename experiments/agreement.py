"""Measure how far other people's code is from the arms here at equal weights, and keep it for the pages.

python experiments/agreement.py        needs the extra `models`; writes results/agreement.json; then make report
"""

import sys

import torch

import beside  # noqa: F401
import peers
from mhc_repro.analysis.tables.agreement import FILE
from mhc_repro.command_line.entry import Parser, exit_code
from mhc_repro.errors import UserError
from mhc_repro.places import RECORDED, results_root
from mhc_repro.runs import files


def main() -> int:
    """Measure and write; return the exit code."""
    return exit_code(_run)


def _run() -> int:
    Parser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    try:
        rows = peers.measure()
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: pip install -e '.[models]'") from None
    path = results_root(RECORDED) / FILE
    files.write_json(path, {"torch": torch.__version__, "measured": rows})
    print(f"{path}: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
