"""Whether torch's compiler works here, proved by using it.

A compiler that is there may still not work: a folder whose files may not be executed, a linker without a
library, a broken cache. So a small kernel is compiled, loaded and run by a process of its own, in the very
folder that will be used; a file there says with what, and the next start only looks.

`python -m mhc_repro.training.compiler DEVICE` is that process.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from mhc_repro.places import ROOT
from mhc_repro.runs.manifest import device_name
from mhc_repro.training import kernels
from mhc_repro.words import one_line

PROOF_SECONDS = 600.0  # it takes ten, and a minute on a machine with much else to do
ELSEWHERE = 3  # the exit code of a proof that may succeed in another folder
# What, beside the compiler itself, decides whether a kernel works.
SETTINGS = ("CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD")

_faults: dict[torch.device, str] = {}  # as far as this process has asked


class Failed(Exception):
    """Kernels that were made anew do not work either: a run goes on without any."""


def configure() -> None:
    """Spare every process what torch's compiler does anew; it reads these when it is first imported."""
    kernels.forget_unusable()
    # Trust the CPU's list of its vector instructions: a test of each takes 8 s, or 1 s when made before.
    os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    # Keep what Sinkhorn's own gradient was traced to. The key of this cache covers the gradient's code.
    os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE_ALLOW_CUSTOM_AUTOGRAD", "1")
    # Precompiled headers lie among the temporary files wherever kernels are kept, are 150 MB of them, and save
    # their own time after some ten kernels.
    os.environ.setdefault("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")


def fault(device: torch.device, cache: Path, trusting: bool = True) -> str:
    """Say in a phrase why nothing can be compiled for `device`; empty where it can, and is set up.

    Kernels stay in `cache`, or in another folder where that cannot hold them. `trusting`: an earlier proof.
    """
    if device not in _faults:
        _faults[device] = _find_fault(device, cache, trusting)
    return _faults[device]


def give_up(device: torch.device, error: Exception) -> None:
    """Compile no more in this process."""
    _faults[device] = f"a kernel does not work: {cause(error)}"


def _find_fault(device: torch.device, cache: Path, trusting: bool) -> str:
    tried = kernels.folders(cache)
    usable = [folder for folder in tried if kernels.holds_kernels(folder)]
    for folder in usable:
        if trusting and _proof(folder, device).exists():
            kernels.settle(folder)
            return ""
    if missing := missing_to_compile(device):
        return f"{missing} is missing"
    found = f"none of {', '.join(map(str, tried))} can hold programs"
    for folder in usable:
        kernels.settle(folder)
        print("trying the compiler, once, for some seconds", file=sys.stderr, flush=True)
        found, elsewhere = prove(device)
        if not found:
            _proof(folder, device).touch()
            return ""
        if not elsewhere:
            break
    return f"a small kernel does not work: {found}"


def missing_to_compile(device: torch.device) -> str:
    """Name what compiling for `device` needs and is not even there; empty where nothing is missing."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return "a GPU of compute capability 7.0 or more"
    if device.type == "cuda" and find_spec("triton") is None:
        return "the package triton"
    if device.type == "cuda":
        return "" if _reads(device, ["-x", "c"]) else "a C compiler with Python's headers"
    found = _reads(device, ["-x", "c++", "-std=c++20", "-fopenmp"], "#include <omp.h>\n")
    return "" if found else "a C++20 compiler with OpenMP and Python's headers"


def _reads(device: torch.device, flags: Sequence[str], more: str = "") -> bool:
    program = _program(device)
    if program is None:
        return False
    command = [program, *flags, "-fsyntax-only", "-I", sysconfig.get_path("include"), "-"]
    source = f"#include <Python.h>\n{more}"
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0


def _program(device: torch.device) -> str | None:
    """Return what torch calls: a C++ compiler for kernels on a CPU, one of C for Triton's launcher on a GPU."""
    names = [os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")]
    if device.type == "cuda":
        names = [os.environ.get("CC", "gcc"), "clang"]
    return next(filter(None, map(shutil.which, names)), None)


def _proof(folder: Path, device: torch.device) -> Path:
    """Return the file that says that kernels work in `folder`, as long as all stays as it is."""
    program = _program(device)
    stat = os.stat(program) if program else None
    made_by = program, stat and (stat.st_size, stat.st_mtime_ns), os.uname().release, torch.__file__
    settings = [os.environ.get(setting) for setting in SETTINGS]
    digest = kernels.digest(device_name(device), made_by, sysconfig.get_path("include"), settings)
    return folder / f"works-{digest}"


def prove(device: torch.device) -> tuple[str, bool]:
    """Have a small kernel compiled, loaded and run in a process of its own.

    Returns what is wrong, empty where it works, and whether another folder may mend that.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mhc_repro.training.compiler", str(device)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROOF_SECONDS,
            start_new_session=True,  # a Ctrl-C is for us, and ends it
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it was not done after {PROOF_SECONDS:.0f} s", False
    if done.returncode < 0:
        return f"it was killed by signal {-done.returncode}", False
    said = f"exit code {done.returncode}\n{done.stderr.strip()}\n{done.stdout.strip()}".strip()
    return ("" if done.returncode == 0 else one_line(said.splitlines()[-1])), done.returncode == ELSEWHERE


def cause(error: BaseException) -> str:
    """Find the line that tells why in the thousands that a failed compilation leaves."""
    inner = getattr(error, "inner_exception", error)
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    telling = re.compile(r"\berror:|\bcannot |\bundefined |no space left|killed", re.IGNORECASE)
    told = next(filter(telling.search, lines), lines[0] if lines else "")
    return one_line(f"{type(inner).__name__}: {told}")


def main(device: torch.device) -> int:
    """Make the proof; return the exit code, and print what is wrong."""
    configure()
    kernels.settle(Path(os.environ[kernels.KERNELS]))
    x = torch.linspace(-1, 1, 64 * 64, device=device).view(64, 64)
    try:
        made = torch.compile(_small, dynamic=False, fullgraph=True)(x)
    except Exception as error:
        inner = getattr(error, "inner_exception", error)
        print(found := cause(error))
        return ELSEWHERE if isinstance(inner, OSError | ImportError) or "No space" in found else 1
    if not torch.allclose(made, _small(x)):
        print("its numbers are wrong")
        return 1
    return 0


def _small(x: torch.Tensor) -> torch.Tensor:
    return x.exp().sum(0)


if __name__ == "__main__":
    sys.exit(main(torch.device(sys.argv[1])))
