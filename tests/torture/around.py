"""Imported first: what the torture needs lies around this folder, the package, the commands and what tests share.

Nothing is compiled to a file, which would be a write among those of a run.
"""

import sys
from pathlib import Path

checkout = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(checkout / each) for each in ("", "experiments", "tests/support")]
sys.dont_write_bytecode = True
