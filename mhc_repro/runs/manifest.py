"""What made a run's numbers, beside its config: the code, the versions, the machine.

`dirty` departs from git's word: only what can change a number counts (the package, `conf/`, the training
script), so a report that rewrites the README between two runs does not mark the second.
"""

import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mhc_repro import __version__
from mhc_repro.places import ROOT
from mhc_repro.runs.identity import PROTOCOL_VERSION

PACKAGES = ("torch", "numpy", "einops", "hydra-core", "omegaconf", "pandas", "pyarrow", "scipy")
CODE = ("--", "mhc_repro", "conf", "experiments/train.py")
CODE_FIELDS = ("commit", "dirty", "diff_sha256")


def fingerprint(device: Any, threads: int, compile: bool) -> dict[str, Any]:
    """Return what must agree for a resumed run to repeat one on a torch.device bit for bit.

    `vectors` are the CPU's widest instructions that torch uses: virtual machines of one name differ in them.
    """
    import torch  # whoever has such a device has it loaded

    return {
        "device": device_name(device),
        "threads": threads,
        "compile": compile,
        "torch": torch.__version__,
        "cpu": cpu_model(),
        "machine": platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return one phrase for each entry of two fingerprints that differs, such as `threads was 2, is 4`."""
    return [
        f"{key} was {old.get(key, 'not recorded')}, is {new.get(key, 'not recorded')}"
        for key in dict.fromkeys([*old, *new])
        if key not in old or key not in new or old[key] != new[key]
    ]


def begun(run_id: str, session: dict[str, Any], **known: Any) -> dict[str, Any]:
    """Return the manifest of a run that begins with `session`, and what is `known` of it."""
    of_code = {key: session[key] for key in CODE_FIELDS}
    made = {"run_id": run_id, "protocol_version": PROTOCOL_VERSION, **of_code, "versions": versions()}
    return made | known | {"sessions": [session], "exact": True}


def session(from_step: int) -> dict[str, Any]:
    """Return what a manifest says of one process that trains: since when, by which code, and from which step."""
    here, started = code(), datetime.now(UTC).isoformat(timespec="seconds")
    return {"started": started, **here, "from_step": from_step}


def code(root: Path = ROOT) -> dict[str, Any]:
    """Return commit, dirty, diff_sha256 (null when clean) of a checkout; `unknown`, null and null without git."""
    try:
        # An installed package may lie inside a repository that is not its own: that commit would say nothing.
        _git(root, "ls-files", "--error-unmatch", "mhc_repro/__init__.py")
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        diff = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "HEAD", *CODE)
        new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *CODE)
        for name in filter(None, new.split(b"\0")):
            diff += name + b"\0" + (root / os.fsdecode(name)).read_bytes()
    except (OSError, subprocess.SubprocessError):
        return {"commit": "unknown", "dirty": None, "diff_sha256": None}
    return {
        "commit": commit,
        "dirty": bool(diff),
        "diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
    }


def same_code(root: Path, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Say whether `code` is the same, as far as git sees it: two commits may differ in the README alone."""
    if old["commit"] == new["commit"] or old["diff_sha256"] != new["diff_sha256"]:
        return bool(old["diff_sha256"] == new["diff_sha256"])
    try:
        return not _git(root, "diff", "--no-ext-diff", "--name-only", old["commit"], new["commit"], *CODE)
    except (OSError, subprocess.SubprocessError):
        return False


def goes_on(recorded: dict[str, Any], session: dict[str, Any], root: Path = ROOT) -> dict[str, Any]:
    """Return the manifest of a run with one more session, whose code is marked where it adds doubt."""
    first = {key: recorded.get(key) for key in CODE_FIELDS}
    last = first | recorded["sessions"][-1]  # sessions did not always say more than their commit
    doubt = session["dirty"] is not False and not first["dirty"]
    marks = {key: session[key] for key in ("dirty", "diff_sha256")} if doubt else {}
    made = {key: value for key, value in recorded.items() if key != "tables"}  # which are open again
    return made | {
        **marks,
        "sessions": [*recorded["sessions"], session],
        "exact": recorded.get("exact", True) and same_code(root, last, session),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can move a number."""
    found = {"python": platform.python_version(), "mhc-repro": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: Any) -> str:
    """Name a torch.device as a fingerprint has it: an NVIDIA or AMD GPU by its model, any other by its kind."""
    if device.type != "cuda":
        return str(device.type)
    import torch  # whoever has such a device has it loaded

    return torch.cuda.get_device_name(device)


def cpu_model() -> str:
    """Return the processor's name as the operating system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    try:
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, check=True, timeout=10, text=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> bytes:
    # A hook's GIT_DIR would point at its own repository.
    plain = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=60, env=plain).stdout
