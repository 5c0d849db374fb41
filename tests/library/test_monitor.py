"""GainMonitor writes what the suite's own probe would, changes nothing, and says what is wrong."""

import json
import time

import numpy as np
import pytest
import torch
from torch import nn

from mhc_repro import GainMonitor
from mhc_repro.config import ProbeConfig
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library import monitor as monitoring
from mhc_repro.measurement.probe import Probe
from mhc_repro.runs import read_run, read_runs
from own_models import LAYERS, Lucidrains, Stack, batches, branch, seeded, train
from two_processes import torchrun

TOKENS = torch.arange(18).view(3, 6) % 17


@pytest.mark.parametrize(
    "name", ["hc", "mhc", "mhc_exponent", "kromhc", "history", "mhc_lss", "single_pass", "deepseek_v4"]
)
def test_rows_are_those_of_the_suites_probe(tiny, tmp_path, name):
    model = tiny(name, awake=0.3)
    probe = Probe(ProbeConfig(every=2, windows=3, token_maps=5), TOKENS, 2).measure(model, 0)
    with GainMonitor(nn.Sequential(model), 2, tmp_path / "mine", probe=TOKENS) as monitor:
        monitor.step()
    run = read_run(monitor.path)
    gains = run.gains[run.gains["step"] == 0]
    for column in probe.gains[0]:
        if column in gains and column != "attention_logit":
            expected = np.stack([row[column] for row in probe.gains])
            found = np.stack([*gains[column]])
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), column
    assert {"spread", "gate_slope", "row_error", "h_pre", "h_single"} <= set(gains)
    first = run.metrics.iloc[0]
    copies = name != "mhc_lss"  # whose scale differs by feature, so no weight says what a stream starts as
    for key, value in probe.metrics.items():
        if key.startswith("gain/") or (key.startswith("kernel/") and copies):
            assert first[key] == pytest.approx(value, rel=1e-6), key


def test_in_training_each_probe_sees_the_weights_of_its_step(watched):
    """What the passive look records under step s is what a separate look at the model after s updates shows."""
    model, states = seeded(Stack), []

    def keep(_=None):
        states.append({key: value.clone() for key, value in model.state_dict().items()})

    keep()
    train(model, 6, keep)
    run = watched(seeded(Stack)).run
    assert run.gains["step"].unique().tolist() == [0, 2, 4]
    assert run.metrics["step"].tolist() == list(range(7))
    assert run.metrics["loss/train"].notna().tolist() == [False] + [True] * 6
    inputs = batches(6)
    for step in (0, 2, 4):
        model.load_state_dict(states[step])
        seen = []
        for layer in model.layers:
            layer.connection.register_forward_hook(lambda _, __, p, seen=seen: seen.append(p.maps.mix))
        model(inputs[step])
        rows = run.probe(step)
        for layer, mix in enumerate(seen[-LAYERS:], 1):
            mean = mix.mean(2).flatten().tolist()
            assert rows.loc[layer, "h_single"].tolist() == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("how", ["passive", "probe", "compiled"])
def test_no_bit_of_the_training_changes(watched, how):
    class Counting(Stack):
        """Counts its forwards in a buffer and draws in each: one of the monitor's own must show in neither."""

        def __init__(self):  # of few iterations: unrolled code takes long to trace
            super().__init__(dropout=0.2, mixing={"kind": "sinkhorn", "iterations": 2})
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x + 0.1 * torch.rand(x.shape))

    plain, other = (seeded(Counting) for _ in range(2))
    losses = []

    def called(model):
        torch._dynamo.reset()
        return torch.compile(model, backend="aot_eager") if how == "compiled" else None

    train(plain, 6, losses.append, called(plain))
    random = torch.rand(4)
    result = watched(other, forward=called(other), probe=batches(1, 9)[0] if how == "probe" else None)
    assert torch.equal(torch.rand(4), random)  # random numbers go on as without
    for mine, theirs in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    recorded = result.run.metrics["loss/train"].dropna().tolist()
    assert recorded == [loss.item() for loss in losses]
    assert other.training
    assert not any(hooks for m in other.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))
    assert len(result.run.gains) == LAYERS * (4 if how == "probe" else 3)


def test_evaluations_accumulation_and_checkpointing_count_once(tmp_path):
    class Checkpointed(Stack):
        def forward(self, x):
            x = self.expand(x)
            for layer in self.layers:
                x = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
            return self.norm(self.reduce(x))

    model = seeded(Checkpointed)
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        for x in batches(3):
            model.eval()(x)
            model.train()
            with torch.no_grad():
                model(x)
            for part in x.split(1):  # three parts of a batch
                model(part).square().sum().backward()
            monitor.step()
    run = read_run(monitor.path)
    assert run.gains.groupby("step").size().tolist() == [LAYERS] * 3
    assert run.config["data"]["batch"] == 1


def test_a_probe_is_looked_at_after_the_last_step_too(tmp_path):
    with GainMonitor(seeded(Stack), 4, tmp_path / "mine", probe=batches(1)[0]) as monitor:
        for _ in range(6):
            monitor.step()
    assert read_run(monitor.path).gains["step"].unique().tolist() == [0, 4, 6]


def test_a_look_apart_runs_no_compiled_code(tmp_path):
    def backend(graph, inputs):
        raise AssertionError

    model = seeded(Stack)
    model.layers[1].branch = torch.compile(branch(), backend=backend)
    with GainMonitor(model, 1, tmp_path / "mine", probe=batches(1)[0]) as monitor:
        monitor.step()
    assert len(read_run(monitor.path).gains) == 2 * LAYERS


@pytest.mark.parametrize("how", ["passive", "probe"])
def test_the_time_of_a_step_is_without_that_of_looking(tmp_path, monkeypatch, how):
    clock, see = [0.0], monitoring.seen_by

    def slowly(watch):
        clock[0] += 5
        return see(watch)

    monkeypatch.setattr(monitoring, "seen_by", slowly)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    model = seeded(Stack)
    probe = batches(1)[0] if how == "probe" else None
    with GainMonitor(model, 2, tmp_path / "mine", probe=probe) as monitor:
        for x in batches(4):
            model(x)
            clock[0] += 1
            monitor.step()
    metrics = read_run(monitor.path).metrics
    assert metrics["time/step"].tolist()[1:] == [1] * 4
    assert set(metrics["time/probe"].dropna()) == {5}


def test_of_two_monitors_each_takes_back_its_own(tmp_path):
    model = seeded(lambda: Lucidrains("hc"))
    before = [{*vars(layer)} for layer in model.layers]
    rows = []
    with (
        GainMonitor(model, 2, tmp_path / "runs" / "first") as first,
        GainMonitor(model, 3, tmp_path / "runs" / "second") as second,
    ):
        train(model, 7, lambda loss: (first.step(loss), second.step(loss)))
    for monitor in (first, second):
        run = read_run(monitor.path)
        assert not verdict(run).applied_otherwise
        rows.append(run.probe(6)["composite_forward"].tolist())
    assert rows[0] == rows[1]
    assert [{*vars(layer)} for layer in model.layers] == before
    model(batches(1, shape=(2, 9))[0])


def test_a_forward_that_fails_is_not_taken_for_one(tmp_path):
    """As where memory runs out and the batch is halved."""

    class Small(nn.Module):
        def forward(self, x):
            if len(x) > 2:
                raise MemoryError
            return x

    model = seeded(Stack)
    model.layers.insert(2, Small())
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        for x in batches(2):
            with pytest.raises(MemoryError):
                model(x)
            model(x[:2]).square().sum().backward()
            monitor.step()
    run = read_run(monitor.path)
    assert run.gains.groupby("step").size().tolist() == [LAYERS] * 2
    assert run.config["data"]["batch"] == 2


@pytest.mark.parametrize("how", ["passive", "probe"])
def test_the_jacobian_at_the_end_is_that_of_the_trained_model(watched, how):
    """From expansion to the last sub-layer, stream to stream, against torch's own Jacobian."""
    model = seeded(Stack)
    probe = batches(1, 9, (1, 2))[0] if how == "probe" else None
    run = watched(model, steps=3, probe=probe, jacobian=("expand", "norm")).run
    x = model.expand(probe if probe is not None else batches(3)[2])
    model.eval()

    def whole(flat):
        state = flat.view(x.shape)
        for layer in model.layers:
            state = layer(state)
        return model.norm(model.reduce(state)).flatten()

    found = run.metrics["jacobian/worst"].dropna().tolist()
    assert run.metrics["step"][run.metrics["jacobian/worst"].notna()].tolist() == [3]
    matrix = torch.autograd.functional.jacobian(whole, x.detach().flatten())
    largest = torch.linalg.svdvals(matrix)[0] * x.norm() / whole(x.flatten()).norm()
    assert found[0] == pytest.approx(largest.item(), rel=0.15)
    assert found[0] <= 1.001 * largest.item()
    assert 0 < run.metrics["jacobian/random"].dropna().item() < found[0]


def test_a_jacobian_may_begin_at_a_connection_which_makes_more_than_streams(watched):
    found = [
        watched(seeded(Stack), steps=3, name=name, jacobian=(name, "norm"))
        .run.metrics["jacobian/worst"]
        .dropna()
        for name in ("layers.0", "layers.0.connection")
    ]
    assert found[0].tolist() == found[1].tolist() != []


@pytest.mark.parametrize(
    ("first", "last", "error", "said"),
    [
        ("norm", "expand", UserError, "does not depend on what the first makes"),
        ("pair", "norm", UserError, "that makes dict"),
        ("wide", "norm", MemoryError, "no room"),
    ],
)
def test_a_jacobian_that_fails_is_told_when_the_run_is_safe(tmp_path, first, last, error, said):
    class Pair(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Wide(nn.Module):
        def forward(self, x):
            if first == "wide" and not self.training:
                raise MemoryError("no room")
            return x

    class Model(Stack):
        def __init__(self):
            super().__init__()
            self.pair, self.wide = Pair(), Wide()

        def forward(self, x):
            return super().forward(self.wide(self.pair(x)["x"]))

    model = seeded(Model)
    monitor = GainMonitor(model, 1, tmp_path / "mine", jacobian=(first, last))
    train(model, 2, monitor.step)
    with pytest.raises(error, match=said):
        monitor.close()
    run = read_run(monitor.path)
    assert run.state == "finished"
    assert run.metrics["step"].tolist() == [0, 1, 2]


def test_under_distributed_data_parallel(tmp_path, watched):
    """Two real processes: no bit of their training changes, and rank 0 alone writes what its batches show."""
    code, said = torchrun("monitored.py", str(tmp_path))
    assert code == 0, said
    found = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert found == [{"unchanged": True, "wrote": True}, {"unchanged": True, "wrote": False}]
    (run,) = read_runs(tmp_path)
    assert run.config["model"]["own"] == "Stack"
    alone = watched(seeded(Stack), steps=4, name="alone").run
    first, later = ([each.probe(n)["composite_forward"].tolist() for each in (run, alone)] for n in (0, 2))
    assert first[0] == first[1]
    assert later[0] != later[1]  # others' gradients
