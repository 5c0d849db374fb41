"""A file that is replaced is never seen half written."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from mhc_repro.errors import UserError
from mhc_repro.runs import files


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    with suppress(OSError), files.replacing(path) as temporary:
        temporary.write_text("{half")
        raise OSError("disk full")
    assert files.read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_the_old_file_stands_until_the_rename(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    rename = os.replace

    def check_then_rename(source: Path, target: Path) -> None:
        assert files.read_json(path) == {"x": 1}
        assert files.read_json(source) == {"x": 2}
        rename(source, target)

    monkeypatch.setattr(os, "replace", check_then_rename)
    files.write_json(path, {"x": 2})
    assert files.read_json(path) == {"x": 2}


@pytest.mark.parametrize("content", ["", "{", "[1]", "\0\0\0"])
def test_a_broken_file_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "status.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"status\.json") as error:
        files.read_json(path)
    assert "\n" not in str(error.value)
    assert files.read_json(tmp_path / "absent.json") is None
