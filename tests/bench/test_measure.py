"""The arithmetic of the bench on given times. No time is judged; command_line/test_bench.py measures for real."""

import pytest
import torch

from mhc_repro.bench import machine, measure, monitor, scaling
from yaml_files import ARM_NAMES

CPU = torch.device("cpu")


def times(pairs):
    parameters = {name: {"body": 10, "connection": 3, "total": 13} for name in [*pairs, "baseline"]}
    return measure.Times(pairs, [100.0, 100.0, 200.0], [50.0] * 3, {"cpu": "x"}, parameters)


def test_ratios_are_those_of_pairs():
    """The machine slows down threefold in the last round: the pairs do not notice, the medians apart would."""
    found = measure.ratios([(1.0, 1.2), (1.0, 1.3), (3.0, 3.3)])
    assert found["step_ratio"] == pytest.approx(1.2)
    assert (found["step_ratio_min"], found["step_ratio_max"]) == pytest.approx((1.1, 1.3))
    assert found["extra_seconds"] == pytest.approx(0.3)
    assert (found["extra_seconds_min"], found["extra_seconds_max"]) == pytest.approx((0.2, 0.3))


def test_record_of_given_times(config):
    alone = {
        "baseline": (measure.Alone(2.0, 999), measure.Alone(1.0, 100)),
        "mhc": (measure.Alone(9.0, 999), measure.Alone(3.0, 150)),
    }
    base, arm = config("baseline"), config("mhc")
    pairs = [(0.5, 0.6), (0.25, 0.5), (1.0, 1.3)]
    found = measure.record(base, {"mhc": arm}, times({"mhc": pairs}), alone)
    mhc, baseline = found["connections"]["mhc"], found["baseline"]
    assert mhc["step_ratio"] == pytest.approx(1.3)
    assert mhc["peak_memory_ratio"] == 1.5
    assert (mhc["first_step_seconds"], mhc["first_step_seconds_warm"]) == (9.0, 3.0)
    assert mhc["params_added"] == 3
    assert baseline["step_seconds"] == 0.5
    assert baseline["tokens_per_second"] == 2 * 6 / 0.5
    flops = baseline["model_flops"]
    assert baseline["utilisation"] == pytest.approx(flops / (0.5 * 100))  # of 1/50, 1/25, 1/200
    assert found["rounds"] == 3


def test_counted_numbers_are_those_the_module_projects(config):
    """mHC projects 2n + n^2 numbers a token from all n C features, HC from the C of each stream."""
    tokens, dim, n = 2 * 6, 8, 4
    sublayers, numbers = 2 * 2, 2 * 4 + 16
    flat, stream = (measure.counted(config(arm))["extra_flops"] for arm in ("mhc", "hc"))
    assert flat - stream == 3 * sublayers * tokens * numbers * 2 * (n - 1) * dim


@pytest.mark.parametrize("arm_name", ARM_NAMES)
def test_every_arm_can_be_counted_and_only_a_baseline_adds_nothing(config, arm_name):
    found = measure.counted(config(arm_name))
    assert (min(found.values()) > 0) == (not arm_name.startswith("baseline"))


def test_peaks_are_rates(monkeypatch):
    monkeypatch.setattr(machine, "_fastest", lambda call, *_: 0.5 if call() is not None else None)
    assert machine.sgemm_peak(CPU, sizes=(8, 4), seconds=0.0) == 2 * 8**3 / 0.5
    assert machine.copy_peak(CPU, 1 << 12, seconds=0.0) == 2 * (1 << 12) / 0.5


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_a_peak_is_timed_until_the_device_is_done(monkeypatch, kind):
    waited: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: waited.append(device.type))
    machine._fastest(lambda: None, 0.0, torch.device(kind))
    assert waited == ([] if kind == "cpu" else [kind])


def test_floor_is_counted_work_over_measured_speed():
    base = {"sgemm_flops_per_second": 100.0, "copy_bytes_per_second": 10.0, "step_seconds": 2.0}
    assert scaling.floor({"extra_flops": 50, "extra_bytes": 1}, base) == pytest.approx(1 + (0.5 + 0.1) / 2)


def test_watching_costs_what_the_pairs_differ_by():
    """Looks of 0.5 s more every 20 steps of 1 s, 0.01 s at the others, now and then longer: 2.5 + 0.95 per cent."""
    found = monitor.costs([(1.0, 1.5), (1.0, 1.5), (1.0, 9.0)], [0.01, 0.01, 7.0])
    assert found["cost_percent"] == pytest.approx(2.5 + 0.95)
    assert [found["look_ratio"], found["look_ratio_max"]] == [1.5, 9.0]
