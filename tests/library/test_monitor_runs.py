"""A monitored run on disk: how it ended, what goes on, and what a mistake is told."""

from functools import partial

import pytest
import torch
from torch import nn

import report
from mhc_repro import GainMonitor
from mhc_repro.analysis import theme
from mhc_repro.command_line.cli import main
from mhc_repro.errors import UserError
from mhc_repro.library import record
from mhc_repro.runs import RunDirectory, read_run, read_runs
from own_models import DIM, LAYERS, Stack, batches, seeded


def test_the_run_is_one_that_the_commands_read(watched, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a = watched(seeded(Stack), name="mhc", settings={"lr": 0.01}).run
    b = watched(seeded(lambda: Stack("hc")), name="hc").run
    root = "runs"  # from here, since the checkout has none
    assert main(["ls", "--root", root]) == 0
    listed = capsys.readouterr().out
    assert a.run_id in listed
    assert "6/6" in listed
    assert main(["show", a.run_id, "--root", root]) == 0
    shown = capsys.readouterr().out
    assert "own: Stack, lr=0.01" in shown
    assert not {"dim:", "lr:", "gate:", "steps: 0"} & set(shown.split()), "a setting that nobody saw"
    assert "max composite gain, fwd" in shown
    assert "‖H_res − I‖ at the end" in shown
    assert main(["compare", a.run_id, b.run_id, "--root", root]) == 0
    assert "connection.name" in capsys.readouterr().out
    assert a.layers == LAYERS
    assert (a.config["data"]["batch"], a.config["data"]["sequence"]) == (3, 5)
    own = sum(p.numel() for name, p in Stack().named_parameters() if ".connection." in name)
    assert a.manifest["parameters"]["connection"] == own


def test_the_report_reads_it(watched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        watched(seeded(Stack), name="mhc", seed=seed)
        watched(seeded(lambda: Stack("hc")), name="hc", seed=seed)
    monkeypatch.setattr(theme, "to_svg", lambda figure: "<svg/>")  # most of the time of a report
    assert report.main(["--root", "runs"]) == 0
    page = (tmp_path / "runs" / "mine" / "README.md").read_text(encoding="utf-8")
    found = read_runs(tmp_path / "runs")
    assert len(found) == 4
    assert all(f"]({run.run_id})" in page for run in found)
    assert [*tmp_path.glob("runs/figures/*gain-by-layer.svg")]


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


@pytest.mark.parametrize(("steps", "looked_at"), [(5, [6, 8]), (1, [6])])
def test_goes_on_at_a_step_that_was_not_due(watched, steps, looked_at):
    run = watched(seeded(Stack), steps=steps, every=4, start=6).run
    assert run.metrics["step"].tolist() == list(range(6, 7 + steps))
    assert run.gains["step"].unique().tolist() == looked_at


def test_goes_on_and_never_over_a_finished_run(watched, monkeypatch):
    model = seeded(Stack)
    first = watched(model, steps=4).run
    RunDirectory(first.path).write_status(wall_seconds=1000.0)
    with pytest.raises(UserError, match=r"a run that has finished; give another name=, seed= or settings="):
        watched(model, steps=4)
    assert read_run(first.path).metrics.equals(first.metrics)
    again = watched(model, steps=4, start=4).run
    assert again.path == first.path
    assert again.metrics["step"].tolist() == list(range(9))
    assert again.metrics["loss/train"].notna().tolist() == [False, *[True] * 8]
    assert again.metrics["loss/train"][4] == first.metrics["loss/train"][4]
    assert [session["from_step"] for session in again.manifest["sessions"]] == [0, 4]
    assert again.manifest["nature"] == first.manifest["nature"]
    assert again.status["wall_seconds"] >= 1000
    assert again.gains["step"].unique().tolist() == [0, 2, 4, 6]
    assert again.manifest["exact"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)  # as on another machine
    assert not watched(model, steps=2, start=8).run.manifest["exact"]
    anew = watched(model, steps=2, overwrite=True).run
    assert anew.metrics["step"].tolist() == [0, 1, 2]


def test_the_status_follows_the_steps_and_a_rate_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "SECONDS", -1)
    model, steps = seeded(Stack), []
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        for x in batches(3):
            model(x).sum().backward()
            monitor.step(1.0, lr=0.25)
            steps.append(read_run(monitor.path).status["step"])
    assert steps == [0, 1, 2]
    assert read_run(monitor.path).metrics["lr"].dropna().tolist() == [0.25] * 3


def test_what_a_run_that_goes_on_lacks_is_said(tmp_path, capsys):
    model = seeded(Stack)

    def watched(start, steps):
        with GainMonitor(model, 4, tmp_path / "mine", start=start) as monitor:
            for x in batches(steps):
                model(x).sum().backward()
                monitor.step()
        return capsys.readouterr().err

    assert "not in the record" not in watched(0, 4)
    assert "steps 5 to 6 are not in the record" in watched(7, 2)
    assert "not in the record" not in watched(9, 2)


def test_a_batch_is_counted_in_tokens_whatever_they_are_made_of(tmp_path):
    class OfImages(Stack):
        def forward(self, x):
            return super().forward(x.flatten(2).mT)

    with GainMonitor(seeded(OfImages), 1, tmp_path / "mine", probe=torch.randn(2, DIM, 3, 3)) as monitor:
        monitor.step()
    data = read_run(monitor.path).config["data"]
    assert data["batch"] * data["sequence"] == 2 * 9


def test_a_norm_that_is_given_is_kept_as_that_before_the_clip(tmp_path):
    model, parts = seeded(Stack), {True: [], False: []}
    with GainMonitor(model, 2, tmp_path / "mine") as monitor:
        for x in batches(4):
            model(x).square().sum().backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            for own, kept in parts.items():
                grads = [p.grad for name, p in model.named_parameters() if (".connection." in name) == own]
                kept.append(nn.utils.get_total_norm(filter(torch.is_tensor, grads)).item())
            monitor.step(**{"grad/norm": norm})
            model.zero_grad()
    metrics = read_run(monitor.path).metrics
    norms = metrics["grad/norm"].dropna()
    assert len(norms) == 4
    assert norms.min() > 1e-2
    for own, name in ((True, "connection"), (False, "body")):
        column = metrics[f"grad/norm_{name}"].dropna()
        assert column.index.tolist() == [1, 3]
        assert column.tolist() == pytest.approx(parts[own][::2], rel=1e-6)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda watch: watch(nn.Linear(2, 2)), "has no hyper-connection that is known"),
        (lambda watch: watch(Stack(), 0), "every=0: must be a whole number, 1 or more"),
        (lambda watch: watch(Stack(), tokens=0), "tokens=0: must be a whole number, 1 or more"),
        (lambda watch: watch(Stack(), seed="a"), "seed='a': must be a whole number, 0 or more"),
        (lambda watch: watch(Stack(), settings={"of": [1]}), r"of=\[1\]: must be a number, a word"),
        (lambda watch: watch(Stack(), jacobian="norm"), "jacobian='norm': must be two names"),
        (lambda watch: watch(Stack(), jacobian=("expand", "nor")), "nearest: norm"),
        (lambda watch: watch(Stack(), out=__file__), "is a file; name a folder"),
        (lambda watch: watch(Stack(), name="my arm"), "name=my arm: must be a plain name"),
        (lambda watch: watch(Stack(), adapters={"Wraped": max}), "nearest: Wrapped"),
        (lambda watch: watch(Stack(), 1).step(), "no hyper-connection was seen in this step's forward"),
        (lambda watch: watch(Stack(), 1).step(torch.ones(2)), r"tensor of shape \(2,\): must be one"),
        (lambda watch: watch(Stack(), 1).step(step=7), "step=7: the monitor counts"),
        (lambda watch: watch(Stack(), start=500, steps=100), "start=500: must be steps=100 or less"),
        (lambda watch: watch(Stack(), steps=True), "steps=True: must be a whole number"),
        (lambda watch: watch(Stack(), 1).step(acc="7"), "acc='7': must be one number"),
        (
            lambda watch: watch(Stack(), 1).step(**{"kernel/late_share": 0.5}),
            "0.5: the monitor measures this",
        ),
    ],
)
def test_a_mistake_is_one_line_that_teaches(use, said, tmp_path):
    with pytest.raises(UserError, match=said):
        use(partial(GainMonitor, out=tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()


def test_an_adapter_of_other_shapes_is_told(watched):
    with pytest.raises(UserError, match=r"must return H_pre \(..., n\), H_post \(..., n\) and H_res"):
        watched(Stack(), adapters={"HyperConnection": lambda *_: (*torch.ones(2, 4), torch.eye(3))})
