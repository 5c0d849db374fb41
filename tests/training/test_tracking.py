"""A sink sees what the tables hold, and nothing that a sink does is seen in the tables."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import wandb
from tensorboardX.proto.event_pb2 import Event, SessionLog
from wandb.proto.wandb_internal_pb2 import Record

from mhc_repro.config import TRACKERS
from mhc_repro.errors import UserError
from mhc_repro.runs import RunDirectory
from mhc_repro.training import tracking
from mhc_repro.training.loop import train
from mhc_repro.validation import validate
from stopping import assert_same_run, elsewhere, interrupt

pytestmark = pytest.mark.usefixtures("checkpoints_at_every_step")


def events(folder: Path) -> list[Event]:
    """Read event files: each record is its length, a checksum, the event, a checksum."""
    found = []
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def shown(found: list[Event]) -> dict[tuple[int, str], float]:
    """What TensorBoard shows: a session that starts at a step takes back all from there on."""
    kept: dict[tuple[int, str], float] = {}
    for event in found:
        if event.session_log.status == SessionLog.START:
            kept = {key: value for key, value in kept.items() if key[0] < event.step}
        kept |= {(event.step, each.tag): each.simple_value for each in event.summary.value}
    return kept


def written(metrics: pd.DataFrame) -> dict[tuple[int, str], float]:
    rows = metrics.set_index("step").stack().dropna()
    return {key: pytest.approx(value, rel=1e-6) for key, value in rows.items()}


def test_tensorboard_shows_steps_that_were_made_again_once(config):
    made = config("mhc", steps=6, runtime={"track": "tensorboard", "checkpoint_seconds": 1e9})
    run = RunDirectory.of(made)
    assert interrupt(made, 3) == "interrupted"
    stale = tracking.TensorBoard(made, run, 3)
    stale.log({"step": 5, "loss/train": 99.0})  # of a session whose checkpoint came before a kill
    stale.close()
    assert train(made) == "finished"
    assert shown(events(run.path / "tensorboard")) == written(run.table("metrics").read())


@pytest.fixture
def offline(monkeypatch) -> Iterator[None]:
    """Weights & Biases without an account or a net; a process reads its variables once, until it is torn down."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def logged(file: Path) -> dict[tuple[int, str], float]:
    """Read the history out of a file of offline records."""
    history: dict[tuple[int, str], float] = {}
    for record in records(file.read_bytes()):
        row = {(each.key or each.nested_key[0]): json.loads(each.value_json) for each in record.history.item}
        history |= {(row["step"], k): v for k, v in row.items() if k != "step" and not k.startswith("_")}
    return history


def records(content: bytes) -> list[Record]:
    """Undo the framing of a LevelDB log: blocks of 32 KiB, each piece behind checksum, length and kind."""
    found, pending, at = [], b"", 7  # behind the file's own header
    while at + 7 <= len(content):
        if (left := 0x8000 - at % 0x8000) < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        pending += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(Record.FromString(pending))
            pending = b""
    return found


FAULT = ConnectionError("as a test\nwanted it")
FAILING = {  # at one of the things asked of a sink
    "open": {"side_effect": FAULT},
    "log": {"return_value.log.side_effect": FAULT},
    "later": {"return_value.log.side_effect": [None, None, FAULT]},
    "close": {"return_value.close.side_effect": FAULT},
    "never": {},
}


def test_a_sink_that_fails_changes_no_bit_and_is_said_once(config, tmp_path, monkeypatch, capsys):
    plain = config("mhc", steps=6)
    assert train(plain) == "finished"
    for at, failing in FAILING.items():
        capsys.readouterr()
        monkeypatch.setitem(tracking.SINKS, "tensorboard", Mock(**failing))
        watched = elsewhere(config("mhc", steps=6, runtime={"track": "tensorboard"}), tmp_path / at)
        assert train(watched) == "finished"
        assert_same_run(watched, plain)
        said = " ".join(capsys.readouterr().err.split())
        warning = "warning: runtime.track=tensorboard ended (as a test wanted it); the run goes on without it"
        assert said.count("warning:") == said.count(warning) == (at != "never"), at


@pytest.mark.parametrize("track", ["tensorboard", "wandb"])
def test_a_real_sink_shows_the_table_of_metrics_and_changes_no_bit(config, tmp_path, offline, track):
    plain = config("hc", model={"dropout": 0.3})
    watched = elsewhere(config("hc", model={"dropout": 0.3}, runtime={"track": track}), tmp_path / "watched")
    assert train(plain) == train(watched) == "finished"
    assert_same_run(watched, plain)
    run = RunDirectory.of(watched)
    wandb.teardown()  # as at the end of a process: its service may write for a moment after a run has ended
    if track == "wandb":
        (file,) = (run.path / "wandb").glob(f"offline-run-*/run-{run.run_id}-{run.path_hash}.wandb")
        kept = logged(file)
    else:
        kept = shown(events(run.path / "tensorboard"))
    assert kept == written(run.table("metrics").read()) != {}


def test_an_account_that_is_missing_is_a_warning(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert train(config("baseline", runtime={"track": "wandb"})) == "finished"
    said = " ".join(capsys.readouterr().err.split())
    assert "warning: runtime.track=wandb ended (No API key configured" in said


@pytest.mark.parametrize(("track", "package"), TRACKERS.items())
def test_a_package_that_is_not_there_is_said_before_a_run(config, monkeypatch, tmp_path, track, package):
    made = config("baseline", runtime={"track": track})
    validate(made)
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [each for each in sys.meta_path if isinstance(each, type)])
    for folder in (False, True):  # a folder of that name, such as wandb leaves, is no package
        (tmp_path / package).mkdir(exist_ok=True) if folder else None
        with pytest.raises(UserError, match=rf"runtime\.track={track}: the package {package} .*\[tracking\]"):
            validate(made)
