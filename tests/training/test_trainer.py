"""One step, one evaluation, and what is equal between arms and with the probe on or off."""

import copy
import math

import pytest
import torch
from torch.nn import functional

from golden_steps import SECOND
from mhc_repro.corpora import data
from mhc_repro.linear import TOKENS, linear
from mhc_repro.measurement import jacobian
from mhc_repro.schema import UNITS
from mhc_repro.training import runtime, trainer
from mhc_repro.training.optim import learning_rate
from mhc_repro.training.trainer import Trainer
from stopping import assert_equal
from tiny_training import TIMES, fill, run, without_clock
from yaml_files import ARM_NAMES


@pytest.mark.parametrize("name", ARM_NAMES)
def test_golden_steps(start, name):
    made = start(name, steps=20, model={"init_std": 0.02})
    fill(made.model)
    made.step()
    row = made.step()
    keys = ("loss/train", "grad/norm_body", "grad/norm_connection")
    assert [row[key] for key in keys] == pytest.approx(SECOND[name], rel=1e-7)


def test_the_probe_looks_at_the_first_validation_windows(start):
    made = start("baseline")
    expected, _ = data.windows(made.corpus.val, made.config.probe.windows, made.config.data.sequence)
    assert torch.equal(made.probe.tokens, expected)


def test_steps_in_float32_follow_those_in_float64(start, arm):
    """Of so many tokens that float32 takes its own way through the products (mhc_repro/linear.py)."""
    kinds = [{"precision": each} for each in ("float32", "float64")]
    narrow, wide = (start(arm, steps=20, data={"batch": 32}, train=kind) for kind in kinds)
    assert 32 * narrow.config.data.sequence % TOKENS == 0
    fill(narrow.model)
    fill(wide.model)
    for _ in range(3):
        assert without_clock(narrow.step()) == pytest.approx(without_clock(wide.step()), rel=1e-4, abs=1e-6)


def test_a_step_is_loss_gradient_clip_update_in_this_order(start, arm):
    made = start(arm, steps=5, seed=3)
    for step in (1, 2):
        inputs, targets = data.batch(made.corpus.train, 3, step, 2, 6)
        before = functional.cross_entropy(made.model(inputs).flatten(0, 1), targets.flatten())
        gradients = torch.autograd.grad(before, list(made.model.parameters()), allow_unused=True)
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients if g is not None))
        row = made.step()
        assert made.done == row["step"] == step
        assert row["loss/train"] == pytest.approx(before.item(), rel=1e-12)
        assert row["grad/norm"] == pytest.approx(norm, rel=1e-10)
        assert row["grad/clipped"] == pytest.approx(min(norm, 1.0), rel=1e-10)
        parts = row["grad/norm_body"], row["grad/norm_connection"]
        assert row["grad/norm"] == pytest.approx(math.hypot(*parts))
        assert row["lr"] == learning_rate(step, 5, made.config.optim)
        assert row["time/step"] > 0
        assert (row["grad/norm_connection"] == 0) == (arm == "baseline")
        after = functional.cross_entropy(made.model(inputs).flatten(0, 1), targets.flatten())
        assert after != before


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_worked_off_in_parts_gives_the_losses_and_gradients_of_the_whole(start, arm, parts):
    settings = {"steps": 5, "data": {"batch": 4}, "train": {"val_windows": 5}}
    whole, split = (start(arm, runtime={"accumulate": count}, **settings) for count in (1, parts))
    sizes = set()
    split.model.register_forward_pre_hook(lambda _, inputs: sizes.add(len(inputs[0])))
    for step in range(5):
        one, other = (without_clock(each.step()) for each in (whole, split))
        assert other == pytest.approx(one, rel=1e-7, abs=1e-12)
        for p, q in zip(whole.model.parameters(), split.model.parameters(), strict=True):
            # later, Adam divides differences of rounding by gradients near 0
            near = (1e-13 if step == 0 else 1e-7) * one["grad/norm"]
            assert p.grad is q.grad is None or (p.grad - q.grad).abs().max() <= near
    assert sizes == {4 // parts}
    assert split.evaluate("val", 5) == pytest.approx(whole.evaluate("val", 5), rel=1e-9)


def test_rows_hold_what_is_due_and_nothing_else(start):
    made = start("mhc", steps=7, train={"val_every": 3}, probe={"every": 2})
    each = {"step", "loss/train", "grad/norm", "grad/norm_body", "grad/norm_connection", "grad/clipped", "lr"}

    def of(*groups: str) -> set[str]:
        return {key for key in UNITS["metrics"] if key.split("/")[0] in groups}

    probe = of("gain", "kernel") | {"streams/spread", "attention/logit"}
    val = {"loss/val", "bpc/val"}
    test = {"loss/test", "bpc/test"} | of("ablation", "jacobian")
    expected = [{"step"} | probe | val]
    for step in range(1, 8):
        due = (probe, step in (2, 4, 6, 7)), (val, step in (3, 6, 7)), (test, step == 7)
        expected.append(each.union(*(keys for keys, now in due if now)))
    rows = run(made)
    assert [set(row) for row in rows] == expected
    assert [row["step"] for row in rows] == list(range(8))
    unasked = {"grad/skipped"} | of("bpb", "true_gain")
    assert {*expected[-1], *TIMES, *unasked} == set(UNITS["metrics"])


def test_with_silent_branches_the_true_gain_of_the_streams_is_that_of_the_products(start):
    made = start("mhc_unconstrained", steps=2, train={"precision": "float64"}, probe={"true_gain": True})
    n, generator = made.model.expansion.n, torch.Generator().manual_seed(3)
    product = torch.eye(n, dtype=torch.float64)
    with torch.no_grad():
        for connection, branch in zip(made.model.connections, made.model.branches, strict=True):
            (branch.out if hasattr(branch, "out") else branch.down).weight.zero_()
            h_res = torch.eye(n) + 0.3 * torch.randn(n, n, generator=generator)
            connection.mix.bias.copy_(h_res.view_as(connection.mix.bias))
            product = h_res.double() @ product
    row = made.measure().metrics
    copies = torch.ones(n, dtype=torch.float64)
    unit = copies.norm() / (product @ copies).norm()
    worst = (torch.linalg.matrix_norm(product, 2) * unit).item()
    assert row["true_gain/streams_worst"] == pytest.approx(worst, rel=1e-3)
    assert row["true_gain/streams_random"] < worst
    assert 0 < row["true_gain/readout_random"] < row["true_gain/readout_worst"]


def test_a_true_gain_is_that_of_the_net_without_dropout(start):
    made = start("hc", steps=1, model={"dropout": 0.5})
    fill(made.model)
    assert made.true_gains() == made.true_gains()
    assert made.model.training


def test_held_out_loss_is_the_mean_over_all_positions_of_the_windows(start):
    made = start("hc", model={"dropout": 0.5}, train={"val_windows": 5, "test_windows": 3})
    for split, count in (("val", 5), ("test", 3)):  # 5 windows in batches of 2: the last one is short
        inputs, targets = data.windows(getattr(made.corpus, split), count, 6)
        with torch.no_grad():
            logits = made.model.eval()(inputs)
        losses = -logits.log_softmax(-1).gather(-1, targets[..., None])
        made.model.train()
        row = made.evaluate(split, count)
        nats = losses.mean().item()
        expected = {f"loss/{split}": nats, f"bpc/{split}": nats / math.log(2)}
        assert row == pytest.approx(expected, rel=1e-12)
        assert made.model.training


def test_parameters_are_counted_by_whom_they_belong_to(start, arm):
    made = start(arm)
    counts = made.parameter_counts()
    connection = {"baseline": 0, "identity": 32 * 8 + 8 + 2, "hc": 6 * 8 + 24 + 3, "mhc": 96 * 8 + 24 + 3}
    assert counts["connection"] == 4 * connection[arm]
    assert counts["total"] == counts["body"] + counts["connection"]
    assert counts["total"] == sum(parameter.numel() for parameter in made.model.parameters())
    assert counts["body"] == 256 * 8 + 6 * 8 + 2 * ((8 + 24 * 8 + 8 * 8) + (8 + 2 * 16 * 8)) + 8


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_no_number_leaves_weights_and_optimiser_as_they_were(start, monkeypatch, bad):
    """The update is handed over before its numbers are read: the optimiser itself looks whether they are any."""
    made = start("hc", steps=3)
    made.step()
    before = copy.deepcopy(made.state())
    with monkeypatch.context() as patch:
        mean_loss = trainer.mean_loss
        patch.setattr(trainer, "mean_loss", lambda *given: mean_loss(*given) * bad)
        assert not math.isfinite(made.step()["loss/train"])
    assert_equal(made.state()["model"], before["model"])
    assert_equal(made.state()["optimizer"]["state"], before["optimizer"]["state"])
    made.step()
    assert not torch.equal(made.model.norm.weight, before["model"]["norm.weight"])


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_of_sub_layers_are_for_the_probe_alone(start, enabled):
    made = start("baseline", probe={"every": 1, "enabled": enabled})
    made.step()
    assert bool(made.layer_gradients) == enabled


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ARM_NAMES)
def test_a_step_on_a_gpu_is_that_on_a_cpu(config, name):
    """After `set_up`, under which an operation that a GPU cannot repeat bit for bit is an error."""
    rows = []
    for device in ("cpu", "cuda"):
        settings = config(name, runtime={"device": device})
        made = Trainer(settings, runtime.set_up(settings.runtime, {})[0])
        rows.append([without_clock(made.step()) for _ in range(2)])
        made.measure()
    for on_cpu, on_gpu in zip(*rows, strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("blocks", "quarter", "half"), [(2, 3, 2), (1, 1, 1)])
def test_an_ablation_is_the_net_without_its_last_sub_layers(start, blocks, quarter, half):
    made = start("baseline", steps=1, model={"blocks": blocks, "dropout": 0.5})
    fill(made.model)
    row = made.dissect()
    assert made.model.training
    made.model.eval()
    inputs, targets = data.windows(made.corpus.val, made.config.train.val_windows, made.config.data.sequence)
    for name, left in (("last_quarter", quarter), ("last_half", half)):
        x = made.model.embed(inputs)
        for branch in made.model.branches[:left]:
            x = x + branch(x)
        logits = linear(made.model.norm(x), made.model.embedding.weight)
        expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
        assert row[f"ablation/{name}"] == pytest.approx(expected, rel=1e-12)


def test_the_jacobian_is_of_four_probe_windows_of_32_symbols_without_dropout(start):
    made = start("hc", steps=1, model={"dropout": 0.5}, data={"sequence": 34}, probe={"windows": 5})
    fill(made.model)
    row = made.dissect()
    assert made.model.training
    model = made.model.eval()
    embedded = model.embed(made.probe.tokens[:4, :32]).detach()
    random, worst = jacobian.relative_gains(model.trunk, embedded)
    assert random < worst
    assert (row["jacobian/random"], row["jacobian/worst"]) == pytest.approx((random, worst), rel=1e-12)


def test_gradients_by_sub_layer_add_up_to_those_of_all(start):
    made = start("mhc", steps=2, probe={"every": 1})
    fill(made.model)
    row = made.step()
    gains = made.measure().gains
    ends = {
        name: p.grad.norm().item() * row["grad/norm"] / row["grad/clipped"]
        for name, p in made.model.named_parameters()
        if not name.startswith(("branches.", "connections."))
    }
    body = math.hypot(*ends.values(), *(each["grad_body"] for each in gains))
    assert body == pytest.approx(row["grad/norm_body"], rel=5e-10)
    maps = math.hypot(*(each["grad_connection"] for each in gains))
    assert maps == pytest.approx(row["grad/norm_connection"], rel=5e-10)


def test_a_step_that_breaks_leaves_the_weights_and_says_where(start):
    made = start("hc", steps=3, train={"precision": "float32"})
    made.step()
    with torch.no_grad():
        made.model.connections[1].mix.bias.fill_(3e38)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    row = made.step()
    assert not math.isfinite(row["loss/train"])
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())
    assert made.broke_at() == "forward: streams after sub-layer 2"
    assert made.step()["step"] == 3


def test_the_step_that_is_looked_at_again_is_the_step_itself(start, monkeypatch):
    """Its batch, its masks of dropout, and how far its training was when it began."""
    made, again = start("mhc_annealed", steps=4, model={"dropout": 0.3}), []
    monkeypatch.setattr(trainer, "first_break", lambda model, x, loss: again.append(loss(model(x)).item()))
    for _ in range(2):
        made.step()
    before = copy.deepcopy(made.model.state_dict())
    row = made.step()
    made.model.load_state_dict(before)
    made.broke_at()
    assert again == pytest.approx([row["loss/train"]], rel=1e-12)
