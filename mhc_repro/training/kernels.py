"""Where torch's compiler keeps its kernels: a folder that can hold them, its paths such as a compiler can read.

What is kept may be damaged: a torn library is dropped before it is loaded, and `start_over` drops the rest.
"""

import hashlib
import os
import platform
import shlex
import struct
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mhc_repro.cache import KERNELS
from mhc_repro.runs.manifest import cpu_model

TEMPORARY = ("/var/tmp", "/tmp", "/dev/shm")


def folders(cache: Path) -> list[Path]:
    """Return the folders that may be made: in the user's own, in the cache, in what is temporary.

    Each is for one torch and one kind of CPU: a kernel uses all instructions of the CPU it was made on.
    """
    instructions = cpu_model(), torch.backends.cpu.get_cpu_capability(), _flags()
    name = f"kernels-torch{torch.__version__}-{digest(sys.version, platform.machine(), *instructions)}"
    found = [cache / name]
    if given := os.environ.get(KERNELS):
        own = Path(given).absolute()
        found.insert(0, own if own.name.endswith(name) else own / name)
    with suppress(OSError):  # there is no temporary folder at all
        parents = dict.fromkeys((tempfile.gettempdir(), *TEMPORARY))
        found += [Path(parent) / f"mhc-repro-{os.getuid()}-{name}" for parent in parents]
    return found


def forget_unusable() -> None:
    """Forget a folder of the user's own that cannot be made; torch makes it as soon as its compiler is imported."""
    if given := os.environ.get(KERNELS):
        try:
            Path(given).mkdir(parents=True, exist_ok=True)
        except OSError:
            del os.environ[KERNELS]


def holds_kernels(folder: Path) -> bool:
    """Make the folder; say whether its files can be written, run, named to a compiler, and are nobody else's."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = folder.stat().st_uid == os.getuid()
        runs = not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)
        return mine and runs and _plain(folder) and os.access(folder, os.W_OK)
    except OSError:
        return False


def settle(folder: Path) -> None:
    """Keep kernels in `folder` from now on."""
    os.environ |= {KERNELS: str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    drop_torn(folder)
    # A space in the path of a checkout is one in that of torch, which does not quote those of libraries.
    libraries = Path(torch.__file__).with_name("lib")
    if not _plain(libraries):
        from torch.utils import cpp_extension

        cpp_extension.TORCH_LIB_PATH = _plain_name(folder, libraries)
    libraries = Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")
    if not _plain(libraries):
        sysconfig.get_config_vars()["LIBDIR"] = _plain_name(folder, libraries)


def drop_torn(folder: Path) -> None:
    """Remove libraries that lack their end, as a killed compiler or a full disk leaves them.

    Loading one can kill the process. What is being written is locked, and left alone.
    """
    if sys.platform != "linux":
        return
    for library in folder.rglob("*.so"):
        with suppress(OSError, Timeout):
            if is_torn(library):
                lock = folder / "locks" / f"{library.name.partition('.')[0]}.lock"  # torch's
                lock.parent.mkdir(exist_ok=True)
                with FileLock(lock, timeout=0):
                    library.unlink(missing_ok=True)


def is_torn(library: Path) -> bool:
    """Say whether an ELF file of 64 bits ends before its table of sections does, which comes last."""
    with library.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return True
    (table,), (size, count) = struct.unpack_from("=Q", head, 40), struct.unpack_from("=HH", head, 58)
    return library.stat().st_size < table + size * count


def start_over(before: float) -> None:
    """Forget the kernels, in this process and in its folder: there those older than the time `before`.

    Newer ones may be another process's, which makes its own anew.
    """
    for path in Path(os.environ[KERNELS]).rglob("*"):
        with suppress(OSError):
            if path.parent.name != "locks" and not path.is_dir() and path.lstat().st_mtime < before:
                path.unlink()
    from torch._inductor import utils

    torch.compiler.reset()
    utils.clear_inductor_caches()


def digest(*parts: object) -> str:
    """Return twelve letters that stand for `parts`."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _plain(path: Path) -> bool:
    return shlex.quote(str(path)) == str(path)


def _plain_name(folder: Path, target: Path) -> str:
    link = folder / f"link-{digest(str(target))}"
    with suppress(FileExistsError):
        link.symlink_to(target)
    return str(link)


def _flags() -> str:
    """Return the list of what the CPU can do: virtual machines of one name differ in it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
