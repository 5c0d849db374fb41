"""What is recorded about the code is true, and silent about what cannot matter."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

from mhc_repro.runs import manifest

UNKNOWN = {"commit": "unknown", "dirty": None, "diff_sha256": None}


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *identity, *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("mhc_repro/__init__.py", "mhc_repro/model.py", "conf/config.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("one\n")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_clean_checkout(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert manifest.code(repository) == {"commit": commit, "dirty": False, "diff_sha256": None}


@pytest.mark.parametrize(
    "name", ["README.md", "results/quick/run/status.json", "mhc_repro/__pycache__/x.pyc"]
)
def test_what_cannot_change_a_number_is_not_dirty(repository, name):
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("two\n")
    assert not manifest.code(repository)["dirty"]


@pytest.mark.parametrize(
    "name", ["mhc_repro/model.py", "mhc_repro/new.py", "conf/new.yaml", "experiments/train.py"]
)
def test_what_can_change_a_number_is_dirty_and_told_apart(repository, name):
    (repository / name).parent.mkdir(exist_ok=True)
    hashes = set()
    for text in ("two\n", "three\n"):
        (repository / name).write_text(text)
        found = manifest.code(repository)
        assert found["dirty"]
        assert found == manifest.code(repository)
        hashes.add(found["diff_sha256"])
    assert len(hashes) == 2
    git(repository, "add", ".")
    assert manifest.code(repository)["dirty"]
    git(repository, "commit", "-qm", "second")
    assert not manifest.code(repository)["dirty"]


def test_a_new_file_is_told_by_its_name_too(repository):
    hashes = set()
    for name in ("hc.yaml", "mhc.yaml"):
        (repository / "conf" / name).write_text("two\n")
        hashes.add(manifest.code(repository)["diff_sha256"])
        (repository / "conf" / name).unlink()
    assert len(hashes) == 2


def test_how_a_user_looks_at_differences_does_not_hide_them(repository):
    """difftastic and the like take the place of git's own diff, which counts here."""
    git(repository, "config", "diff.external", "true")
    clean = manifest.code(repository)
    (repository / "mhc_repro" / "model.py").write_text("two\n")
    changed = manifest.code(repository)
    assert (clean["dirty"], changed["dirty"]) == (False, True)
    assert not manifest.same_code(repository, clean, changed)


def test_no_checkout_no_commit_and_no_git_are_unknown(tmp_path, monkeypatch):
    (tmp_path / "mhc_repro").mkdir()
    (tmp_path / "mhc_repro" / "__init__.py").write_text("")
    assert manifest.code(tmp_path) == UNKNOWN
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    assert manifest.code(tmp_path) == UNKNOWN
    git(tmp_path, "commit", "-qm", "first")
    assert manifest.code(tmp_path) != UNKNOWN
    monkeypatch.setenv("PATH", "")
    assert manifest.code(tmp_path) == UNKNOWN


def test_a_package_inside_somebody_elses_repository_is_unknown(repository):
    installed = repository / "venv" / "site-packages"
    (installed / "mhc_repro").mkdir(parents=True)
    (installed / "mhc_repro" / "__init__.py").write_text("")
    assert manifest.code(installed) == UNKNOWN


def test_a_hooks_environment_is_ignored(repository, monkeypatch):
    expected = manifest.code(repository)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert manifest.code(repository) == expected


def test_two_commits_are_the_same_code_where_nothing_that_counts_differs(repository):
    first = manifest.code(repository)
    for name, same in (("README.md", True), ("mhc_repro/model.py", False)):
        (repository / name).write_text("two\n")
        changed = manifest.code(repository)
        assert manifest.same_code(repository, first, changed) is same
        git(repository, "commit", "-qam", name)
        now = manifest.code(repository)
        assert now["commit"] != first["commit"]
        assert manifest.same_code(repository, first, now) is same
    assert not manifest.same_code(repository, first, UNKNOWN)
    assert manifest.same_code(repository, UNKNOWN, UNKNOWN)  # nothing is seen to differ


def test_uncommitted_changes_mark_a_run_for_good(repository):
    clean = manifest.code(repository)
    (repository / "mhc_repro" / "model.py").write_text("two\n")
    changed = manifest.code(repository)
    made = {**clean, "sessions": [clean], "exact": True}
    for session, exact in ((clean, True), (changed, False), (changed, False), (clean, False)):
        made = manifest.goes_on(made, session, repository)
        assert made.items() >= {**(clean if exact else changed), "exact": exact}.items()
    assert made["sessions"] == [clean, clean, changed, changed, clean]
    begun = manifest.goes_on({**changed, "sessions": [changed], "exact": True}, changed, repository)
    assert (begun["exact"], begun["dirty"]) == (True, True)


def test_differences_name_what_changed_and_only_that():
    old = manifest.fingerprint(torch.device("cpu"), 2, False)
    assert set(old) == {"device", "threads", "compile", "torch", "cpu", "machine", "vectors"}
    assert old["cpu"]
    assert manifest.differences(old, dict(old)) == []
    assert manifest.differences(old, {**old, "threads": 4}) == ["threads was 2, is 4"]
    assert manifest.differences({}, {"device": "cpu"}) == ["device was not recorded, is cpu"]
