"""Where data and checkpoints are: where one says, else in one's home, else where one may write."""

import os
import pwd
import tempfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from mhc_repro import cache


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for who has no home, without anything that names another."""
    for name in (cache.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"mhc-repro-{os.getuid()}"


def test_what_is_named_counts(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "variable"))
    assert cache.cache_directory(str(tmp_path / "given")) == tmp_path / "given"
    assert cache.cache_directory(None) == tmp_path / "variable"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_directory("~/x") == tmp_path / "x"


def test_a_home_has_a_folder_of_the_projects_name_on_every_system(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_directory(None).name == "mhc-repro"


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="caches are elsewhere on a Mac")
def test_a_home_that_can_be_written_is_used(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_directory(None) == tmp_path / "home" / ".cache" / "mhc-repro"


@pytest.mark.parametrize("home", ["/", "/nowhere/at/all", "/dev/null", None])
def test_who_has_no_home_gets_a_temporary_folder(temporary, monkeypatch, home):
    monkeypatch.setattr(pwd, "getpwuid", Mock(side_effect=KeyError("getpwuid(): uid not found")))
    monkeypatch.setattr(
        os, "access", lambda path, mode: not str(path).startswith("/dev/null") and path != Path("/")
    )
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    assert cache.cache_directory(None) == temporary
    cache.make(temporary / "checkpoints")
