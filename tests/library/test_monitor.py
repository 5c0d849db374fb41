"""GainMonitor writes what the suite's own probe would, changes nothing, and says what is wrong."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mhc_repro import GainMonitor
from mhc_repro.command_line.cli import main
from mhc_repro.config import ProbeConfig
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library import monitor as module
from mhc_repro.measurement.probe import Probe
from mhc_repro.runs import read_run, read_runs
from own_models import LAYERS, Reference, Stack, batches, seeded, stirred, train
from two_processes import torchrun

TOKENS = torch.arange(18).view(3, 6) % 17


def found(run):
    """What the guards found, whatever it is called."""
    return sorted(code for word, code in verdict(run).notes() if word != "not judged")


@pytest.fixture
def watched(tmp_path):
    """watched(model, steps): train it under a monitor; return the run and the monitor."""

    def run(model, steps=6, every=2, forward=None, seed=0, **options):
        watching = model if forward is None else forward
        with GainMonitor(watching, every, tmp_path / "runs" / "mine", seed=seed, **options) as monitor:
            train(model, steps, monitor.step, forward, seed)
        return SimpleNamespace(run=read_run(monitor.path), monitor=monitor)

    return run


@pytest.mark.parametrize("name", ["hc", "mhc", "mhc_exponent", "kromhc", "history", "mhc_lss"])
def test_rows_are_those_of_the_suites_probe(tiny, tmp_path, name):
    model = tiny(name, awake=0.3)
    probe = Probe(ProbeConfig(every=2, windows=3, token_maps=5), TOKENS, 2).measure(model, 0)
    ends = model.reduction

    # The suite's joins its streams by a plain function, the sum by default.
    with GainMonitor(nn.Sequential(model), 2, tmp_path / "mine", probe=TOKENS) as monitor:
        monitor.step()
    run = read_run(monitor.path)
    gains = run.gains[run.gains["step"] == 0]
    for column in probe.gains[0]:
        if column in gains and column != "attention_logit":
            expected, found = (
                np.stack([*each]) for each in ([row[column] for row in probe.gains], gains[column])
            )
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-7), column
    assert {"spread", "gate_slope", "row_error", "h_pre", "h_single"} <= set(gains)
    first = run.metrics.iloc[0]
    summed = getattr(ends, "keywords", {}).get("how") == "sum"
    copies = name != "mhc_lss"  # whose scale differs by feature, so no weight says what a stream starts as
    for key, value in probe.metrics.items():
        if key.startswith("gain/") or (key.startswith("kernel/") and summed and copies):
            assert first[key] == pytest.approx(value, rel=1e-6), key


def test_in_training_each_probe_sees_the_weights_of_its_step(watched):
    """What the passive look records under step s is what a separate look at the model after s updates shows."""
    states = []

    def keep(model):
        return lambda _: states.append({k: v.clone() for k, v in model.state_dict().items()})

    model = seeded(Stack)
    states.append({k: v.clone() for k, v in model.state_dict().items()})
    train(model, 6, keep(model))
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
    few = {"mixing": {"kind": "sinkhorn", "iterations": 2}}  # unrolled code takes long to trace
    plain, other = (seeded(lambda: Stack(dropout=0.2, **few)) for _ in range(2))
    losses = []
    if how == "compiled":
        torch._dynamo.reset()
        forward = torch.compile(plain, backend="aot_eager")
        train(plain, 6, losses.append, forward)
        torch._dynamo.reset()
        result = watched(other, forward=torch.compile(other, backend="aot_eager"))
    else:
        train(plain, 6, losses.append)
        result = watched(other, probe=batches(1, 9)[0] if how == "probe" else None)
    assert torch.equal(torch.rand(4), torch.rand(4)) is False  # the generator is alive ...
    for mine, theirs in zip(plain.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    recorded = result.run.metrics["loss/train"].dropna().tolist()
    assert recorded == [loss.item() for loss in losses]
    assert other.training
    assert not any(hooks for m in other.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))
    assert len(result.run.gains) == LAYERS * (4 if how == "probe" else 3)


def test_random_numbers_go_on_as_without(watched):
    after = []
    for monitored in (False, True):
        model = seeded(lambda: Stack(dropout=0.2))
        if monitored:
            watched(model, probe=batches(1, 9)[0])
        else:
            train(model, 6)
        after.append(torch.rand(4))
    assert torch.equal(*after)


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
            for part in x.split(1):  # three parts of a batch
                model(part).square().sum().backward()
            model.eval()(x)
            model.train()
            with torch.no_grad():
                model(x)
            monitor.step()
    rows = read_run(monitor.path).gains
    assert rows.groupby("step").size().tolist() == [LAYERS] * 3


def test_narrow_products_wide_maps(tmp_path):
    model = seeded(Stack)

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            return model(x).float()

    with GainMonitor(model, 2, tmp_path / "mine") as monitor:
        train(model, 4, monitor.step, forward)
    run = read_run(monitor.path)
    assert run.gains["row_error"].max() < 1e-6
    assert found(run) == []


def test_the_run_is_one_that_the_commands_read(watched, tmp_path, capsys):
    a = watched(seeded(Stack), name="mhc", settings={"lr": 0.01}).run
    b = watched(seeded(lambda: Stack("hc")), name="hc").run
    root = str(tmp_path / "runs")
    assert main(["ls", "--root", root]) == 0
    listed = capsys.readouterr().out
    assert a.run_id in listed
    assert "6/6" in listed
    assert main(["show", a.run_id, "--root", root]) == 0
    shown = capsys.readouterr().out
    assert "own: Stack, lr=0.01" in shown
    assert not {"dim:", "lr:", "gate:", "steps: 0"} & set(shown.split()), "a setting that nobody saw"
    assert "gain" in shown
    assert main(["compare", a.run_id, b.run_id, "--root", root]) == 0
    assert "connection.name" in capsys.readouterr().out
    assert a.layers == LAYERS
    assert (a.config["data"]["batch"], a.config["data"]["sequence"]) == (3, 5)
    assert a.manifest["parameters"]["connection"] == sum(
        p.numel() for n, p in Stack().named_parameters() if ".connection." in n
    )


def test_the_report_reads_it(watched, tmp_path):
    from mhc_repro.analysis.report import render
    from mhc_repro.evidence.comparison import read_studies

    for seed in (0, 1):
        watched(seeded(Stack), name="mhc", seed=seed)
        watched(seeded(lambda: Stack("hc")), name="hc", seed=seed)
    texts = render(tmp_path / "runs", read_studies(tmp_path / "runs"), with_pages=False)
    assert "mine/README.md" in texts
    assert any(name.endswith("gain-by-layer.svg") for name in texts)


def test_an_h_res_used_transposed_is_named_and_measured_as_used(watched, capsys):
    straight = watched(seeded(Reference), name="straight", steps=2)
    assert straight.monitor.applied.finding is None
    turned = watched(seeded(lambda: Reference(turned=True)), name="turned", steps=2)
    assert found(turned.run) == ["columns_exact", "h_res_transposed"]
    assert "h_res_transposed: H_res used transposed" in capsys.readouterr().err
    assert turned.monitor.applied.straight > 100 * turned.monitor.applied.transposed
    rows = {name: each.run.probe(0) for name, each in (("straight", straight), ("turned", turned))}
    # two iterations: what is normalised last is exact, and that is the rows only if comb is used as it should be
    assert rows["straight"]["row_error"].max() < 1e-5 < 1e-3 < rows["straight"]["column_error"].min()
    assert rows["turned"]["column_error"].max() < 1e-5 < 1e-3 < rows["turned"]["row_error"].min()


def test_what_the_streams_do_not_bear_out_is_named(watched, tmp_path):
    def wrong(module, inputs, outputs):
        return torch.full((4,), 0.25), torch.ones(4), torch.full((4, 4), 0.25)

    model = stirred(seeded(lambda: Stack("hc")))
    run = watched(model, steps=1, adapters={"HyperConnection": wrong}).run
    assert found(run) == ["maps_unexplained"]
    assert run.connection == "HyperConnection"


def test_a_callable_says_the_maps(watched):
    """The reference's own step as a module of the user's: the same rows as by the adapter of its methods."""

    class Step(nn.Module):
        def __init__(self, whole, layer):
            super().__init__()
            self.whole, self.layer = [whole], layer

        def forward(self, x):
            whole, layer = self.whole[0], self.layer
            given, post, comb = Reference.hc_pre(
                whole, x, whole.hc_fn[layer], whole.hc_scale[layer], whole.hc_base[layer]
            )
            self.kept = post, comb
            return Reference.hc_post(whole, whole.branches[layer](given), x, post, comb)

    class Steps(Reference):
        hc_pre = hc_post = None

        def __init__(self):
            super().__init__()
            self.steps = nn.ModuleList(Step(self, layer) for layer in range(LAYERS))

        def forward(self, x):
            x = x[:, :, None].repeat(1, 1, self.n, 1)
            for step in self.steps:
                x = step(x)
            return x.sum(2)

    def maps(step, inputs, outputs):
        post, comb = step.kept
        whole, layer = step.whole[0], step.layer
        flat = inputs[0].flatten(2)
        numbers = flat @ whole.hc_fn[layer][:4].T * (flat.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return (numbers + whole.hc_base[layer][:4]).sigmoid() + 1e-6, post, comb.mT

    by_method = watched(seeded(Reference), name="by_method", steps=2).run.probe(0)
    by_callable = watched(seeded(Steps), name="by_callable", steps=2, adapters={Step: maps}).run.probe(0)
    for column in ("composite_forward", "composite_backward", "sigma2", "spread"):
        assert by_callable[column].tolist() == pytest.approx(by_method[column].tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("mhc_tokenbender", {"h_res_identity"}),
        ("mhc_uniform", {"h_res_uniform", "streams_never_separated"}),
        ("mhc", set()),
    ],
)
def test_guards_speak_of_what_is_wrong_alone(watched, capsys, name, reasons):
    run = watched(seeded(lambda: Stack(name)), steps=24, every=4).run
    said = capsys.readouterr().err
    assert reasons <= set(found(run))
    assert all(f"GainMonitor: {reason}: " in said for reason in reasons)
    assert bool(reasons) == bool(found(run)) == bool(said)


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


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [("norm", "expand", "does not depend on what the first makes"), ("pair", "norm", "that makes dict")],
)
def test_a_jacobian_of_nothing_is_told_when_the_run_is_safe(tmp_path, first, last, said):
    class Pair(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Model(Stack):
        def __init__(self):
            super().__init__()
            self.pair = Pair()

        def forward(self, x):
            return super().forward(self.pair(x)["x"])

    model = seeded(Model)
    monitor = GainMonitor(model, 1, tmp_path / "mine", jacobian=(first, last))
    train(model, 2, monitor.step)
    with pytest.raises(UserError, match=said):
        monitor.close()
    run = read_run(monitor.path)
    assert run.state == "finished"
    assert run.metrics["step"].tolist() == [0, 1, 2]


def test_how_it_ended(tmp_path):
    model = seeded(Stack)

    def loop(error=None, loss=1.0):
        with GainMonitor(model, 1, tmp_path / "mine", overwrite=True) as monitor:
            for x in batches(2):
                model(x).sum().backward()
                monitor.step(loss)
            path.append(monitor.path)
            if error:
                raise error

    path = []
    for error, status in ((KeyboardInterrupt(), "interrupted"), (ValueError("no"), "failed")):
        with pytest.raises(type(error)):
            loop(error)
        assert read_run(path[-1]).state == status
    loop(loss=float("nan"))
    run = read_run(path[-1])
    assert run.state == "diverged"
    assert "step 1" in run.status["message"]
    loop()
    assert read_run(path[-1]).state == "finished"


def test_rows_are_written_together_and_none_is_lost(tmp_path):
    model = seeded(Stack)
    shared = torch.zeros(())  # as a captured graph has it: each step's loss in the same place

    def loop():
        with GainMonitor(model, 3, tmp_path / "mine") as monitor:
            paths.append(monitor)
            for count, x in enumerate(batches(5)):
                model(x).sum().backward()
                monitor.step(shared.fill_(count))
                written.append(len(read_run(monitor.path).metrics))
            raise ValueError("no")

    paths, written = [], []
    with pytest.raises(ValueError, match="no"):
        loop()
    assert written == [1, 1, 1, 4, 4]
    metrics = read_run(paths[0].path).metrics
    assert metrics["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert metrics["loss/train"].tolist()[1:] == [0, 1, 2, 3, 4]


def test_goes_on_at_a_step_that_is_not_looked_at(watched):
    run = watched(seeded(Stack), steps=5, every=4, start=6).run
    assert run.metrics["step"].tolist() == [6, 7, 8, 9, 10, 11]
    assert run.gains["step"].unique().tolist() == [8]


def test_goes_on_and_never_over_a_finished_run(watched, tmp_path):
    model = seeded(Stack)
    first = watched(model, steps=4).run
    with pytest.raises(UserError, match=r"a run that has finished; give another name=, seed= or settings="):
        watched(model, steps=4)
    assert read_run(first.path).metrics.equals(first.metrics)
    again = watched(model, steps=4, start=4).run
    assert again.path == first.path
    assert again.metrics["step"].tolist() == list(range(9))
    assert again.gains["step"].unique().tolist() == [0, 2, 4, 6]
    anew = watched(model, steps=2, overwrite=True).run
    assert anew.metrics["step"].tolist() == [0, 1, 2]


def test_other_ranks_do_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_other_rank", lambda: True)
    model = seeded(Stack)
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        assert not model._forward_hooks
        train(model, 2, monitor.step)
    assert not (tmp_path / "mine").exists()


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda out: GainMonitor(nn.Linear(2, 2), out=out), "has no hyper-connection that is known"),
        (lambda out: GainMonitor(Stack(), 0, out), "every=0: must be a whole number, 1 or more"),
        (lambda out: GainMonitor(Stack(), out=out, tokens=0), "tokens=0: must be a whole number, 1 or more"),
        (lambda out: GainMonitor(Stack(), out=out, seed="a"), "seed='a': must be a whole number, 0 or more"),
        (
            lambda out: GainMonitor(Stack(), out=out, settings={"of": [1]}),
            r"of=\[1\]: must be a number, a word",
        ),
        (lambda out: GainMonitor(Stack(), out=out, jacobian="norm"), "jacobian='norm': must be two names"),
        (lambda out: GainMonitor(Stack(), out=out, jacobian=("expand", "nor")), "nearest: norm"),
        (lambda out: GainMonitor(Stack(), out=out, name="my arm"), "name=my arm: must be a plain name"),
        (lambda out: GainMonitor(Stack(), out=out, adapters={"Wraped": max}), "nearest: Wrapped"),
        (
            lambda out: GainMonitor(Stack(), 1, out).step(),
            "no hyper-connection was seen in this step's forward",
        ),
        (
            lambda out: GainMonitor(Stack(), 1, out).step(torch.ones(2)),
            r"tensor of shape \(2,\): must be one",
        ),
        (lambda out: GainMonitor(Stack(), 1, out).step(acc="7"), "acc='7': must be one number"),
    ],
)
def test_a_mistake_is_one_line_that_teaches(use, said, tmp_path):
    with pytest.raises(UserError, match=said):
        use(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_an_adapter_of_other_shapes_is_told(watched):
    with pytest.raises(UserError, match=r"must return H_pre \(..., n\), H_post \(..., n\) and H_res"):
        watched(Stack(), adapters={"HyperConnection": lambda *_: (*torch.ones(2, 4), torch.eye(3))})
