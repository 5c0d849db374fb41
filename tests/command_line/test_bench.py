"""experiments/bench.py as one types it: mistakes, and the one line of a tiny real measurement."""

import json
import pickle
from functools import partial
from unittest.mock import ANY, Mock

import pytest

import bench
from mhc_repro.analysis import prose
from mhc_repro.analysis.figures import scaling as figure
from mhc_repro.analysis.tables import overhead
from mhc_repro.analysis.theme import to_svg
from mhc_repro.bench import machine, measure, monitor, processes, records, scaling
from one_line import assert_one_line

TINY = (
    *("model.blocks=1", "model.dim=16", "model.heads=2", "data.batch=2", "data.sequence=16"),
    *("runtime.compile=off", "probe.windows=4"),
)
ONCE = ("--threads=1", "--rounds=1")


def _sent(call):
    """Send what a process of its own would do, as it is sent there."""
    return pickle.loads(pickle.dumps(call))


@pytest.fixture
def main(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "apart", lambda call, cache=None: _sent(call)())  # each would import torch
    monkeypatch.setattr(measure, "TURN_SECONDS", 0)
    monkeypatch.setattr(machine, "sgemm_peak", partial(machine.sgemm_peak, sizes=(64,), seconds=0.0))
    monkeypatch.setattr(machine, "copy_peak", partial(machine.copy_peak, seconds=0.0))
    monkeypatch.setattr(bench, "results_root", lambda name: tmp_path / name)
    return bench.main


def test_json_is_exactly_one_line_with_every_promised_key(main, tmp_path, capsys):
    line = ["--connections=mhc,hc", "--protocol=quick", *ONCE, "--json", "--save"]
    assert main([*line, "connection.n=2", *TINY]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    found = json.loads(captured.out)
    assert list(found["connections"]) == ["mhc", "hc"]
    for numbers in found["connections"].values():
        for key in ("peak_memory_ratio", "first_step_seconds", "first_step_seconds_warm", "params_added"):
            assert numbers[key] > 0
        assert 0 < numbers["step_ratio_min"] <= numbers["step_ratio"] <= numbers["step_ratio_max"]
        assert "extra_seconds" in numbers
    for key in ("tokens_per_second", "utilisation", "peak_memory_bytes", "copy_bytes_per_second"):
        assert found["baseline"][key] > 0
    assert found["fingerprint"]["threads"] == found["rounds"] == 1
    assert found["connections"]["mhc"]["params_added"] == 2 * (2 * 16 * 8 + 8 + 3)  # n = 2: 8 numbers of 32
    assert "round 1 of 1" in captured.err
    assert records.newest(tmp_path / "results/local") == [found]
    assert str(tmp_path) not in captured.out


def test_without_json_a_table(main, tmp_path, capsys):
    assert main(["--connections=identity", *ONCE, *TINY]) == 0
    out = capsys.readouterr().out
    assert "mHC, H_res = I" in " ".join(out.split())
    assert "utilisation" in out
    assert not (tmp_path / "results").exists()


def test_scaling_measures_every_point_and_its_record_can_be_drawn(main, tmp_path, monkeypatch, capsys):
    small = {"DIMS": (8,), "STREAMS": (2, 4), "CENTRE": (8, 4), "TOKENS": (1, 2), "BLOCKS": 1}
    for name, value in small.items():
        monkeypatch.setattr(scaling, name, value)
    free = [each for each in TINY if not each.startswith(bench.GRID)]
    assert main(["--scaling", *ONCE, "--save", *free, "probe.token_maps=16", "data.batch=1"]) == 0
    (found,) = records.newest(tmp_path / "results/local", records.SCALING)
    assert found is not None
    places = [(row["connection"], row["dim"], row["n"], row["tokens"]) for row in found["points"]]
    assert places == [("mhc", 8, 2, 16), ("mhc", 8, 4, 16), ("mhc", 8, 4, 32)]
    for row in found["points"]:
        assert row["floor_ratio"] > 1
        assert row["baseline_step_seconds"] > 0
    assert "counted" in capsys.readouterr().out
    assert to_svg(figure.scaling(found)).startswith("<?xml")


def test_watching_is_measured_on_every_model_and_its_record_fills_pages(main, tmp_path, monkeypatch, capsys):
    pytest.importorskip("hyper_connections")
    pytest.importorskip("transformers")
    for name, value in {"DIM": 64, "LAYERS": 2, "BATCH": (2, 8)}.items():
        monkeypatch.setattr(monitor, name, value)
    monkeypatch.setattr(monitor, "_now", iter(range(10**6)).__next__)  # a step takes a tick
    assert main(["--monitor", "--threads=1", "--rounds=2", "--save"]) == 0
    root = tmp_path / "results"
    (found,) = records.newest(root, records.MONITOR)
    arms = ["mhc", "hc_of_lucidrains", "mhc_of_lucidrains", "deepseek_v4"]
    assert [*found["monitored"]] == arms
    even = {"look_ratio": 1, "look_ratio_min": 1, "look_ratio_max": 1, "cost_percent": 100 * 19 / 40}
    assert found["monitored"] == dict.fromkeys(arms, even)
    out = capsys.readouterr().out
    assert all(f"`{arm}`" in out for arm in arms)
    assert records.newest(root) == []
    assert prose.number("monitor look_ratio", {}, [], root) == "1.00"
    assert "2 sub-layers × 64, 2 × 8 tokens, hyper-connections " in overhead.provenance(found)


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_what_is_set_of_a_connection_reaches_the_arms_and_not_the_baseline(main, monkeypatch, prefix):
    measured = Mock(return_value={})
    monkeypatch.setattr(measure, "measure", measured)
    name, value = ("order", "rows_first") if prefix else ("iterations", 3)
    assert main(["--connections=mhc", "--json", f"{prefix}connection.mixing.{name}={value}"]) == 0
    baseline, arms, *_ = measured.call_args.args
    assert (baseline.connection.name, arms["mhc"].connection.name) == ("baseline", "mhc")
    assert arms["mhc"].connection.mixing[name] == value


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        ([], "results"),
        (["--connections=identity,hc,mhc"], "results"),
        (["--connections=hc,tbp,kromhc,go_mhc,mhc_lite,cmhc,ohc,s2hc,oshc"], "results"),
        (["--connections=mhc"], "results/local"),  # else the README's table would lose the other arms
        (["--protocol=quick"], "results/local"),
        (["model.dim=128"], "results/local"),
    ],
)
def test_a_record_of_other_arms_or_settings_is_a_try_out(main, monkeypatch, tmp_path, arguments, folder):
    saved = Mock(return_value="")
    monkeypatch.setattr(measure, "measure", lambda *_: {})
    monkeypatch.setattr(records, "save", saved)
    assert main(["--save", "--json", *arguments]) == 0
    saved.assert_called_once_with(ANY, tmp_path / folder)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--connections=mch"], ["connection=mch: ", "mhc"]),
        (["--connections=baseline"], ["always measured"]),
        (["--protocol=fast"], ["protocol=fast: ", "quick, reference"]),
        (["--rounds=0"], ["--rounds: '0'"]),
        (["--threads=two"], ["--threads: 'two'"]),
        (["--bogus"], ["--bogus"]),
        (["model.dimm=3"], ["model.dimm=3: ", "model.dim="]),
        (["seed=0,1"], ["seed=0,1: several values"]),
        (["connection=hc"], ["connection=hc: ", "--connections=hc"]),
        (["study=quick"], ["study=quick: ", "no study"]),
        (["--scaling", "connection.n=8"], ["connection.n=8: --scaling goes through"]),
        (["--scaling", "--connections=mhc_lite"], ["connection.n=8: ", "connection.n=4\n"]),
        (["--monitor", "--scaling"], ["--monitor has models of its own"]),
        (["--monitor", "--connections=mhc"], ["--monitor has models of its own"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(main, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("measured before all was composed"))
    assert main(arguments) == 2
    assert_one_line(capsys, *said)
