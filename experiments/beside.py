"""Imported first: a command runs the package that lies beside it, whatever its Python has installed.

So do the processes that it starts. A checkout that was copied with its environment has the original's installed.
"""

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
