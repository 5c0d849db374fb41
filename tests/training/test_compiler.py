"""Does the compiler work here: found out by using it, once, and told in one line."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from mhc_repro.config import RuntimeConfig
from mhc_repro.errors import UserError
from mhc_repro.training import compiler, kernels, runtime
from mhc_repro.words import LINE

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
WORKS, FAILS = shutil.which("true"), shutil.which("false")  # in a compiler's place
able = pytest.mark.skipif(bool(compiler.missing_to_compile(CPU)), reason="there is no C++20 compiler")


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch):
    """Nothing asked yet, and nothing set that outlasts the test."""
    monkeypatch.setattr(compiler, "_faults", {})
    for name in (kernels.KERNELS, "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is a GPU, and a compiler; gpu(capability=(6, 1)) an older one."""

    def make(capability=(8, 0), triton=True, program=WORKS):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Maker A1")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(compiler, "find_spec", lambda name: triton or None)
        monkeypatch.setattr(shutil, "which", lambda name: program)

    make()
    return make


@pytest.fixture
def answers():
    """What the next proofs find; after them all is well."""
    return []


@pytest.fixture
def proofs(answers, monkeypatch, tmp_path):
    """The folders in which a kernel was tried."""
    tried = []

    def prove(device):
        tried.append(Path(os.environ[kernels.KERNELS]))
        return answers.pop(0) if answers else ("", False)

    monkeypatch.setattr(compiler, "prove", prove)
    temporary = str(tmp_path / "temporary")
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    monkeypatch.setattr(kernels, "TEMPORARY", (temporary,))
    return tried


@pytest.fixture
def compiles(proofs, tmp_path):
    """compiles("on", GPU): whether a run told so compiles."""
    return lambda choice, device=CPU: runtime.compiles(
        RuntimeConfig(compile=choice, cache=str(tmp_path)), device
    )


def fault_anew(*given, **named):
    """Ask as another process would."""
    compiler._faults.clear()
    return compiler.fault(*given, **named)


# --- what is not even there ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        ({}, ""),
        ({"capability": (6, 1)}, "compute capability 7.0"),
        ({"triton": False}, "triton"),
        ({"program": None}, "C compiler"),
        ({"program": FAILS}, "Python's headers"),
    ],
)
def test_a_gpu_that_cannot_compile_goes_without_unless_told_to(gpu, compiles, proofs, has, missing):
    gpu(**has)
    assert compiles("auto", GPU) == (not missing)
    assert not compiles("off", GPU)
    assert len(proofs) == (not missing)
    if missing:
        with pytest.raises(UserError, match=f"{missing}.* is missing; use runtime.compile=auto"):
            compiles("on", GPU)


def test_mps_compiles_only_where_asked(gpu, compiles):
    asked = {choice: compiles(choice, torch.device("mps")) for choice in ("auto", "on", "off")}
    assert asked == {"auto": False, "on": True, "off": False}


@pytest.mark.parametrize(("program", "able"), [(WORKS, True), (FAILS, False), (None, False)])
def test_a_cpu_compiles_where_a_compiler_finds_the_headers(gpu, compiles, program, able):
    gpu(program=program)
    assert compiles("auto") == able
    if not able:
        with pytest.raises(UserError, match=r"runtime.compile=on: a C\+\+20 compiler .* is missing; use"):
            compiles("on")


# --- what is there and may not work -------------------------------------------------------------------------


def test_a_proof_is_made_once_for_each_surroundings(gpu, proofs, tmp_path, monkeypatch):
    for _ in range(2):
        assert fault_anew(CPU, tmp_path) == ""
    assert len(proofs) == 1
    monkeypatch.setenv("LIBRARY_PATH", "/somewhere/else")
    assert fault_anew(CPU, tmp_path) == ""
    gpu(program=FAILS)  # another compiler
    monkeypatch.setattr(compiler, "missing_to_compile", lambda device: "")
    assert fault_anew(CPU, tmp_path) == ""
    assert len(proofs) == 3
    assert fault_anew(CPU, tmp_path, trusting=False) == ""
    assert len(proofs) == 4


def test_where_the_folder_is_to_blame_another_is_tried(gpu, answers, proofs, tmp_path):
    answers.append(("OSError: failed to map segment", True))
    assert fault_anew(CPU, tmp_path / "cache") == ""
    assert proofs[0].parent == tmp_path / "cache"
    assert len(set(proofs)) == 2
    assert fault_anew(CPU, tmp_path / "cache") == ""
    assert len(proofs) == 2
    assert os.environ[kernels.KERNELS] == str(proofs[1])


def test_where_the_compiler_is_to_blame_no_other_folder_is_tried(gpu, answers, proofs, compiles, tmp_path):
    answers.append(("CppCompileError: collect2: error: ld returned 1 exit status", False))
    with pytest.raises(UserError, match=r"runtime.compile=on: .*ld returned 1 exit status; use runtime"):
        compiles("on")
    assert not compiles("auto")
    assert len(proofs) == 1
    assert fault_anew(CPU, tmp_path) == ""  # it was mended; a fault is not remembered


HOSTILE = """
import os, sys, tempfile, torch
from pathlib import Path
from mhc_repro.config import RuntimeConfig
from mhc_repro.training import compiler, kernels, runtime
kernels.TEMPORARY = (sys.argv[1],)
assert " " in torch.__file__ and " " in tempfile.gettempdir()

def start():
    compiler._faults.clear()  # as in another process
    device, fingerprint = runtime.set_up(RuntimeConfig(device="cpu", cache=sys.argv[2]), {})
    assert fingerprint["compile"], runtime.why_uncompiled(RuntimeConfig(cache=sys.argv[2]), device)
    return Path(os.environ[kernels.KERNELS])

folder = start()
import torch._functorch.config, torch._inductor.config  # read once, and only after they were set
assert torch._inductor.config.cpp.vec_isa_ok
assert torch._functorch.config.autograd_cache_allow_custom_autograd_functions
library = next(folder.rglob("*.main.so"))
whole = library.stat().st_size
os.truncate(library, whole // 4)  # where loading it kills the process
for proof in folder.glob("works-*"):
    proof.unlink()
assert start() == folder
assert library.stat().st_size == whole
print(folder)
"""


@able
def test_kernels_work_where_every_path_has_a_space_and_torn_ones_are_made_anew(tmp_path):
    """In paths of torch, temporary files and cache; and there is no home."""
    spaced = tmp_path / "a checkout"
    (spaced / "tmp").mkdir(parents=True)
    (spaced / "torch").symlink_to(Path(torch.__file__).parent)
    (tmp_path / "plain").mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    env |= {"PYTHONPATH": str(spaced), "TMPDIR": str(spaced / "tmp"), "HOME": str(spaced)}
    command = [sys.executable, "-c", HOSTILE, str(tmp_path / "plain"), str(spaced / "cache")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path / "plain"
    assert done.stderr == "trying the compiler, once, for some seconds\n" * 2


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


UNLOADABLE = """
for word; do [ "$last" = -o ] && echo nonsense >"$word" && exit; last=$word; done
exec {real} "$@"  # says its version, reads headers
"""


@able
def test_a_compiler_whose_libraries_cannot_be_loaded_is_found_out(tmp_path, monkeypatch):
    fake = script(tmp_path / "c++", UNLOADABLE.format(real=compiler._program(CPU)))
    monkeypatch.setenv("CXX", str(fake))
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path))
    assert compiler.missing_to_compile(CPU) == ""
    found, elsewhere = compiler.prove(CPU)
    assert re.fullmatch(r"ImportError: \S+\.so: (file too short|invalid ELF header)", found)
    assert elsewhere


@pytest.mark.parametrize(
    ("python", "found"),
    [
        ("seq 100000; echo CppCompileError: x.cpp: error: y; exit 1", "CppCompileError: x.cpp: error: y"),
        ("seq 100000 | tr -d '\\n'; exit 1", "1234567891011.* \\.\\.\\."),
        ("seq 100000 >&2; exit 1", "100000"),
        ("exit 1", "exit code 1"),
        ("kill -BUS $$", "it was killed by signal 7"),
        ("sleep 60", "it was not done after 1 s"),
    ],
)
def test_what_is_wrong_is_one_line_however_it_went_wrong(python, found, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python", python)))
    if "sleep" in python:
        monkeypatch.setattr(compiler, "PROOF_SECONDS", 1.0)
    said, _ = compiler.prove(CPU)
    assert re.fullmatch(found, said)
    assert len(said) <= LINE


def test_the_line_that_tells_is_found_among_thousands():
    noise = "\n".join(f"vec.h:{line}:19: warning: overflow in conversion" for line in range(5000))
    output = f"{noise}\n/usr/bin/ld: cannot find -lgomp\n{noise}"
    error = RuntimeError(f"C++ compile error\n\nCommand:\ng++ x.cpp\n\nOutput:\n{output}")
    assert compiler.cause(error) == "RuntimeError: /usr/bin/ld: cannot find -lgomp"
    error = ImportError("x.so: file too short\n\nSet TORCHDYNAMO_VERBOSE=1")
    assert compiler.cause(error) == "ImportError: x.so: file too short"
    assert compiler.cause(KeyError()) == "KeyError:"
