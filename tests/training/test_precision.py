"""Narrow numbers: what is rounded and what is not, a loss that is scaled, and how a run ends that cannot be."""

import math

import pytest
import torch
from torch.nn import functional

from mhc_repro.runs import RunDirectory
from mhc_repro.training import trainer
from mhc_repro.training.loop import train
from mhc_repro.training.trainer import Trainer

TOKENS = torch.arange(12).view(2, 6)
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
NORMS = ("grad/norm", "grad/norm_body", "grad/norm_connection", "grad/clipped")


def weights(made: Trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in made.model.parameters()]


def is_rounded(x: torch.Tensor, half: str) -> bool:
    return torch.equal(x, x.to(HALVES[half]).to(x.dtype))


@pytest.mark.parametrize("half", HALVES)
def test_products_are_narrow_and_weights_maps_logits_and_what_is_measured_are_not(tiny, arm, half):
    model, products, seen = tiny(arm, awake=0.3, precision=half), set(), set()
    for branch in model.branches:
        for linear in branch.children():
            if isinstance(linear, torch.nn.Linear):
                linear.register_forward_hook(lambda module, given, made: products.add(made.dtype))

    def observe(layer, streams, maps, carry):
        seen.update({streams.dtype, *(each.dtype for each in maps or ())})
        assert (streams.flatten(0, 2) @ streams.flatten(0, 2).T).dtype == torch.float32

    logits = model(TOKENS, observe)
    assert products == {HALVES[half]}
    assert seen == {logits.dtype} == {each.dtype for each in model.parameters()} == {torch.float32}
    with torch.no_grad():
        difference = (logits - tiny(arm, awake=0.3, precision="float32")(TOKENS)).norm() / logits.norm()
    assert 1e-6 < difference < 0.1


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_streams_are_rounded_between_sub_layers_and_maps_are_not(tiny, arm, half, norm):
    model, maps = tiny(arm, awake=0.3, streams=half, model={"norm": norm}), []

    def observe(layer, streams, found, carry):
        assert streams.dtype == torch.float64
        assert is_rounded(streams, half)
        maps.extend(found or ())

    with torch.no_grad():
        logits = model(TOKENS, observe)
        wide = tiny(arm, awake=0.3, model={"norm": norm})(TOKENS)
    assert 1e-6 < (logits - wide).norm() / wide.norm() < 0.1
    assert arm == "baseline" or not all(is_rounded(each, half) for each in maps)


def test_the_gradients_of_the_streams_are_rounded_too(tiny, arm):
    """Of what each sub-layer hands on, as if that were all that is kept."""
    model, gradients = tiny(arm, awake=0.3, streams="bfloat16"), []

    def listen(module, given, passed) -> None:
        passed.streams.register_hook(gradients.append)

    for connection in model.connections:
        connection.register_forward_hook(listen)
    model(TOKENS).square().sum().backward()
    assert len(gradients) == 4
    assert all(is_rounded(gradient, "bfloat16") and gradient.any() for gradient in gradients)


@pytest.mark.parametrize("where", ["precision", "streams"])
def test_a_scaled_loss_leaves_gradients_as_they_were(start, arm, where):
    wide = start(arm, train={"precision": "float32"}).step()
    scaled = start(arm, train={"precision": "float32", where: "float16"}).step()
    assert scaled["grad/skipped"] == 0
    for key in ("loss/train", *NORMS):
        assert scaled[key] == pytest.approx(wide[key], rel=2e-2), key


def test_small_gradients_of_float16_streams_are_not_lost(start, monkeypatch):
    """Unscaled, those of a mean over so many tokens are below what float16 can tell from 0."""
    norms, original = {}, functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda *given: 1e-6 * original(*given))
    for streams in ("wide", "float16"):
        made = start("mhc", train={"precision": "float32", "streams": streams})
        norms[streams] = made.step()["grad/norm"]
    assert norms["wide"] < 1e-5
    assert norms["float16"] == pytest.approx(norms["wide"], rel=2e-2)


def test_a_scale_that_overflows_costs_steps_and_not_the_run(start):
    made = start("mhc", steps=12, train={"precision": "float16"})
    made.scaler.load_state_dict(made.scaler.state_dict() | {"scale": 2.0**24})
    start, rows = weights(made), []
    while not rows or rows[-1]["grad/skipped"]:
        rows.append(made.step())
        still = all(torch.equal(a, b) for a, b in zip(start, weights(made), strict=True))
        assert still == bool(rows[-1]["grad/skipped"])
    assert 3 < len(rows) < 12
    for count, row in enumerate(rows[:-1], start=1):
        assert (row["step"], row["lr"] > 0, math.isfinite(row["loss/train"])) == (count, True, True)
        assert not set(NORMS) & set(row)
    assert made.scaler.get_scale() == 2.0 ** (24 - len(rows) + 1)
    assert all(math.isfinite(rows[-1][key]) for key in NORMS)


def test_a_run_whose_scale_only_falls_has_diverged(config, monkeypatch):
    """From 65536 the scale is halved 16 times; at 1 the gradient alone is to blame."""
    original = trainer.make_model

    def broken(*given, **named):
        model = original(*given, **named)
        model.norm.weight.register_hook(lambda gradient: gradient * math.inf)
        return model

    monkeypatch.setattr(trainer, "make_model", broken)
    falling = config("hc", steps=50, train={"precision": "float16"})
    assert train(falling) == "diverged"
    run = RunDirectory.of(falling)
    assert run.read_status()["step"] == 17
    assert run.read_status()["message"].startswith("grad/norm")
    metrics = run.table("metrics").read()
    assert metrics["grad/skipped"].iloc[1:].eq(1).all()
    assert metrics["grad/norm"].iloc[1:-1].isna().all()


def test_weights_past_the_range_of_float16_end_the_run(config, monkeypatch):
    original = trainer.make_model

    def wide(*given, **named):
        model = original(*given, **named)
        with torch.no_grad():
            model.branches[1].down.weight.mul_(1e6)
        return model

    monkeypatch.setattr(trainer, "make_model", wide)
    assert train(config("baseline", train={"precision": "float16"})) == "diverged"
    assert train(config("baseline", train={"precision": "bfloat16"})) == "finished"


@pytest.mark.parametrize("streams", ["wide", "bfloat16"])
def test_compiled_connections_make_the_same_step(start, streams):
    rows = []
    for compiled in (False, True):
        mixing = {"kind": "sinkhorn", "iterations": 2}  # unrolled, 20 take a compiler long
        made = start("mhc", train={"precision": "bfloat16", "streams": streams}, mixing=mixing)
        if compiled:
            made.model.compile_connections()
        rows.append([made.step() for _ in range(2)])
    for plain, fast in zip(*rows, strict=True):
        for key in ("loss/train", *NORMS):
            assert fast[key] == pytest.approx(plain[key], rel=1e-2), key
