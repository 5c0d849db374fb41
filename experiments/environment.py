"""Make the environment that the Makefile works in, or mend it: `python3 experiments/environment.py .venv`.

It is left alone where its Python has the package of this checkout and the versions that are asked for. One that was
copied or moved, or whose Python is gone, is made anew: what it holds names the place it was made for. Needs the
standard library alone, and any Python 3 can read it.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
VERSIONS = ("pyproject.toml", "experiments/constraints-py311.txt")
PACKAGES = ".[launchers,notebooks,tracking,models,dev]"
# What a person's settings may tell pip of another place to install to; an empty one counts as none.
HERE = {"PIP_USER": "0", "PIP_TARGET": "", "PIP_PREFIX": "", "PIP_ROOT": ""}
SOURCE = "import os, mhc_repro; print(os.path.realpath(os.path.dirname(mhc_repro.__path__[0])))"


def main(folder: Path, checkout: Path = CHECKOUT) -> int:
    """Bring the environment in `folder` up to date with `checkout`; return the exit code."""
    folder, checkout = folder.resolve(), checkout.resolve()
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = f"{folder}\n{_digest(checkout)}\n"
    made = stamp.read_text() if stamp.is_file() else ""
    if made == wanted and _answer(python, SOURCE) == str(checkout):
        return 0
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        wrong = f"{sys.executable} is not Python 3.11, 3.12 or 3.13"
        print(f"error: {wrong}; name one with PYTHON=python3.12", file=sys.stderr)
        return 2
    moved = made and made.splitlines()[0] != str(folder)
    anew = (folder / "pyvenv.cfg").is_file() and (moved or _answer(python, "print()") is None)
    if anew:
        print(f"{folder} was made for another place, or its Python is gone: it is made anew", flush=True)
    code = run(checkout, sys.executable, "-m", "venv", *(["--clear"] if anew else []), str(folder))
    if code == 0:
        print(f"installing into {folder}; torch is large, this may take some minutes", flush=True)
        install = ("install", "--quiet", "--editable", PACKAGES, "--constraint", VERSIONS[1])
        code = run(checkout, str(python), "-m", "pip", *install)
    if code == 0:
        stamp.write_text(wanted)
    return code


def run(checkout: Path, *command: str) -> int:
    """Run a command in the checkout; return its exit code."""
    return subprocess.run(command, cwd=checkout, env={**os.environ, **HERE}).returncode


def _answer(python: Path, code: str) -> "str | None":
    """Return what `code` prints in a Python that knows nothing but what it has installed; null if it fails."""
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return None
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None


def _digest(checkout: Path) -> str:
    return hashlib.sha256(b"".join((checkout / name).read_bytes() for name in VERSIONS)).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the environment")
    sys.exit(main(parser.parse_args().folder))
