"""Where kernels are kept: a folder that can hold them, and nothing in it that is torn."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch.utils import cpp_extension

from mhc_repro.training import compiler, kernels


@pytest.fixture
def noexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system whose files may not be executed: a real one where one may be mounted."""
    folder = tmp_path / "noexec"
    folder.mkdir()
    with ExitStack() as after:
        mount = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(folder)]
        if shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            after.callback(subprocess.run, ["umount", str(folder)], check=True)
        else:
            real = os.statvfs

            def statvfs(path: Path) -> os.statvfs_result:
                found = list(real(path))
                found[8] |= os.ST_NOEXEC * Path(path).is_relative_to(folder)
                return os.statvfs_result(found)

            monkeypatch.setattr(os, "statvfs", statvfs)
        yield folder


@pytest.fixture
def library(tmp_path: Path) -> Callable[[str], Path]:
    """Compile a small library to that place, as a linker writes them."""

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        source = "int numbers[9999] = {1}; int kernel(int x) { return x + numbers[7]; }"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=source, text=True, check=True)
        return path

    return make


needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
linux = pytest.mark.skipif(sys.platform != "linux", reason="its libraries are no ELF files")


def test_a_users_own_folder_comes_first_then_the_cache_then_what_is_temporary(tmp_path, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path / "own"))
    own, cached, *temporary = kernels.folders(tmp_path / "cache")
    assert (own.parent, cached.parent) == (tmp_path / "own", tmp_path / "cache")
    assert {Path(each) for each in kernels.TEMPORARY} <= {each.parent for each in temporary}
    monkeypatch.setenv(kernels.KERNELS, str(own))  # as a process that we started finds it
    assert kernels.folders(tmp_path / "cache")[0] == own


def test_a_users_own_folder_that_cannot_be_made_is_forgotten_before_torch_makes_it(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path / "own"))
    compiler.configure()
    assert os.environ[kernels.KERNELS] == str(tmp_path / "own")
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path / "file" / "own"))
    compiler.configure()
    assert kernels.KERNELS not in os.environ


def test_another_cpu_or_torch_has_a_folder_of_its_own(tmp_path, monkeypatch):
    names = [kernels.folders(tmp_path)[0].name]
    says = [(kernels, "cpu_model"), (kernels, "_flags"), (torch.backends.cpu, "get_cpu_capability")]
    for place, name in says:
        monkeypatch.setattr(place, name, lambda: "another")
        names.append(kernels.folders(tmp_path)[0].name)
    monkeypatch.setattr(torch, "__version__", "9.9")
    names.append(kernels.folders(tmp_path)[0].name)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["plain", "a space", "quo'te", "$HOME", "new\nline"])
def test_only_a_plain_path_holds_kernels(tmp_path, name):
    assert kernels.holds_kernels(tmp_path / name / "kernels") == (name == "plain")


def test_no_folder_that_cannot_be_written_or_run_or_is_anothers(tmp_path, noexec, monkeypatch):
    (tmp_path / "file").touch()
    assert not kernels.holds_kernels(tmp_path / "file" / "kernels")
    assert not kernels.holds_kernels(noexec / "kernels")
    assert kernels.holds_kernels(tmp_path / "kernels")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert not kernels.holds_kernels(tmp_path / "kernels")
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert not kernels.holds_kernels(tmp_path / "kernels")


@linux
@needs_compiler
def test_a_library_cut_anywhere_is_torn(library, tmp_path):
    whole = library("whole.so")
    assert not kernels.is_torn(whole)
    content, cut = whole.read_bytes(), tmp_path / "cut.so"
    for length in (*range(0, len(content), 97), len(content) - 1):
        cut.write_bytes(content[:length])
        assert kernels.is_torn(cut), length
    cut.write_bytes(bytes(len(content)))  # a file system that lost its content and not its size
    assert kernels.is_torn(cut)


@linux
@needs_compiler
def test_torn_libraries_go_and_whole_and_locked_ones_stay(library, tmp_path):
    whole, torn, written = (library(f"{name}/{name}.main.so") for name in ("whole", "torn", "written"))
    for each in (torn, written):
        os.truncate(each, 5000)
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks" / "written.lock"):
        kernels.drop_torn(tmp_path)
    assert [each.exists() for each in (whole, torn, written)] == [True, False, True]
    kernels.drop_torn(tmp_path)
    assert [each.exists() for each in (whole, torn, written)] == [True, False, False]


def test_starting_over_keeps_what_others_have_made_since(tmp_path, monkeypatch):
    monkeypatch.setenv(kernels.KERNELS, str(tmp_path))
    ages = {"ab/old.so": 50, "ab/old.py": 50, "ab/new.so": 150, "locks/old.lock": 50}
    for name, age in ages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    kernels.start_over(before=100)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"ab/new.so", "locks/old.lock"}


def test_libraries_under_a_path_with_a_space_get_a_plain_name(tmp_path, monkeypatch):
    spaced = tmp_path / "a checkout" / "torch"
    (spaced / "lib").mkdir(parents=True)
    for name in (kernels.KERNELS, "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", str(spaced / "lib"))
    monkeypatch.setattr(torch, "__file__", str(spaced / "__init__.py"))
    monkeypatch.setitem(sysconfig.get_config_vars(), "LIBDIR", str(spaced))
    folder = tmp_path / "kernels"
    folder.mkdir()
    for _ in range(2):
        kernels.settle(folder)
        named = [cpp_extension.TORCH_LIB_PATH, sysconfig.get_config_var("LIBDIR")]
        assert [Path(each).resolve() for each in named] == [spaced / "lib", spaced]
        assert not any(" " in each for each in named)
    assert os.environ[kernels.KERNELS] == str(folder)
