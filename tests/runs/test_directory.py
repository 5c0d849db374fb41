"""One writer at a time, whatever kills it; a status that is always whole."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

import mhc_repro
from mhc_repro import places
from mhc_repro.config import Config
from mhc_repro.errors import UserError
from mhc_repro.places import checkout, results_root
from mhc_repro.runs import RunBusy, RunDirectory, directory, locks, read_run, run_id

PACKAGE = Path(mhc_repro.__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from mhc_repro.runs import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
with run.locked():
    run.write_status(status="running", step=0, steps=10)
    print("held", flush=True)
    step = 0
    while True:
        step += 1
        if sys.argv[2] == "write":
            run.write_status(step=step, message="x" * (step % 5000))
        else:
            time.sleep(0.05)
"""

MANIFEST = {
    "protocol_version": 1,
    "commit": "abc",
    "dirty": None,
    "fingerprint": {"threads": 1},
    "parameters": {"body": 90, "connection": 10, "total": 100},
    "sessions": [{"commit": "abc", "from_step": 0, "host": "unknown to this version"}],
    "newer": [1, {"a": None}],
}


@contextmanager
def holder(path: Path, mode: str = "sleep") -> Iterator[subprocess.Popen]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-c", HOLD, str(path), mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def run(make_config: Callable[..., Config]) -> RunDirectory:
    return RunDirectory.of(make_config())


def test_path_is_root_study_id(make_config, tmp_path):
    config = make_config(study="stability")
    run = RunDirectory.of(config)
    assert run.path == tmp_path / "results" / "stability" / run_id(config)
    assert run.run_id == run_id(config)
    assert not run.path.exists()
    assert run.state() == "missing"


def test_relative_roots_start_at_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "ROOT", tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    assert checkout() == tmp_path
    (tmp_path / "site" / "conf").mkdir(parents=True)
    assert checkout() == tmp_path / "site"
    assert results_root("results/local") == tmp_path / "site" / "results" / "local"
    assert results_root(str(tmp_path / "r")) == tmp_path / "r"


def test_a_folder_that_cannot_be_made_is_one_line(make_config, tmp_path):
    (tmp_path / "file").touch()
    config = make_config()
    config.runtime.results = str(tmp_path / "file" / "below")
    with pytest.raises(UserError, match=r"runtime\.results="), RunDirectory.of(config).locked():
        pass


def test_config_file_holds_everything_but_the_runtime(make_config):
    config = make_config(study="stability", seed=3)
    run = RunDirectory.of(config)
    with run.locked():
        run.write_config(config)
        first = (run.path / "config.yaml").read_bytes()
        run.write_config(config)
    assert (run.path / "config.yaml").read_bytes() == first
    written = yaml.safe_load(first)
    assert "runtime" not in written
    assert (written["seed"], written["study"], written["optim"]["eps"]) == (3, "stability", 1e-8)
    assert run.read_config() == written


def test_fields_that_came_later_are_read_as_their_defaults(make_config):
    config = make_config()
    run = RunDirectory.of(config)
    with run.locked():
        run.write_config(config)
    whole = run.read_config()
    older = {key: dict(value) if isinstance(value, dict) else value for key, value in whole.items()}
    del older["probe"]["token_map_times"], older["connection"]["n"]
    older["guards"] = {"spread": 1e-4}  # a group that configs once had
    (run.path / "config.yaml").write_text(yaml.safe_dump(older))
    assert run.read_config() == whole
    assert read_run(run.path).n == 1


def test_status_merges_and_is_stamped(run):
    assert run.read_status() is None
    with run.locked():
        run.write_status(status="running", step=1, steps=10)
        run.write_status(step=2)
        assert run.state() == "running"
    status = run.read_status()
    assert status is not None
    assert (status["status"], status["step"], status["steps"]) == ("running", 2, 10)
    assert status["updated"].endswith("+00:00")
    assert run.state() == "interrupted"
    run.write_status(status="diverged")
    assert run.state() == "diverged"
    with pytest.raises(ValueError, match="done"):
        run.write_status(status="done")


def test_manifest_round_trip(run):
    assert run.read_manifest() is None
    with run.locked():
        run.write_manifest(MANIFEST)
    assert run.read_manifest() == MANIFEST


def test_a_second_process_is_refused_at_once_until_the_first_is_killed(run):
    with run.locked():
        inode = (run.path / ".lock").stat().st_ino
    with holder(run.path) as process:
        assert (run.path / ".lock").stat().st_ino == inode  # releasing it keeps the one lock file
        for _ in range(2):  # a refused attempt must not loosen the lock
            started = time.monotonic()
            with pytest.raises(RunBusy, match=run.run_id) as error, run.locked():
                pass
            assert time.monotonic() - started < 30  # one that waits would never come back
            assert "\n" not in str(error.value)
            assert run.state() == "running"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run.state() == "interrupted"
        with run.locked():
            assert run.state() == "running"


def test_the_lock_is_not_reentrant_and_is_freed_by_an_exception(run):
    with suppress(KeyboardInterrupt), run.locked():
        with pytest.raises(RunBusy), RunDirectory(run.path).locked():
            pass
        raise KeyboardInterrupt
    with run.locked():
        pass


def test_looking_does_not_get_in_the_way_of_a_writer(run, monkeypatch):
    monkeypatch.setattr(directory, "LOCK_SECONDS", 4.0)  # on a busy machine a look takes longer
    with run.locked():
        run.write_status(status="running", step=0, steps=4)
    looked = threading.Event()

    def look() -> None:  # as `busy` does, but a thousand times slower
        with FileLock(run.path / ".lock"):
            looked.set()
            time.sleep(0.05)

    reader = threading.Thread(target=look)
    reader.start()
    looked.wait()
    assert run.state() == "interrupted"
    reader.join()
    looked.clear()
    reader = threading.Thread(target=look)
    reader.start()
    looked.wait()
    with run.locked():
        pass
    reader.join()


def test_the_status_is_whole_under_a_writer_and_after_its_death(run):
    with holder(run.path, "write") as process:
        steps = []
        for _ in range(300):
            status = run.read_status()
            assert status is not None
            assert status["message"] == "x" * (status["step"] % 5000) if status["step"] else True
            steps.append(status["step"])
        assert steps == sorted(steps)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run.read_status() is not None
    (run.path / ".status.json.1.tmp").write_text("{half")  # what the kill may leave
    with run.locked():
        assert not list(run.path.glob("*.tmp"))


def test_a_run_that_ends_between_the_two_looks_is_not_interrupted(run, monkeypatch):
    run.path.mkdir(parents=True)
    run.write_status(status="running", step=4, steps=4)

    def ends(self: RunDirectory) -> bool:
        self.write_status(status="finished")
        return False

    monkeypatch.setattr(directory.RunDirectory, "busy", ends)
    assert run.state() == "finished"


def without_flock(file: object, operation: int) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize("flock", [without_flock, lambda file, operation: None])
def test_where_locks_do_not_hold_a_run_is_written_and_known_to_be_unguarded(flock, run, monkeypatch):
    """A file system may refuse locks, or take them without keeping anybody out."""
    with run.locked():
        assert run.guarded
    monkeypatch.setattr("fcntl.flock", flock)
    for _ in range(2):  # the file of the first time is nobody's lock in the second
        with run.locked():
            assert not run.guarded
            run.write_status(status="running", step=0, steps=4)
            assert run.state() == "interrupted"
    assert not locks.hold(run.path / ".lock")
