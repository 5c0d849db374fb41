"""What the monitor says of a model's maps: transposed use, maps that the streams belie, arms that are dead."""

from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

from mhc_repro import GainMonitor, expand_and_reduce, hyper_connection
from mhc_repro.errors import UserError
from mhc_repro.evidence.verdicts import verdict
from mhc_repro.library.record import columns_exact
from mhc_repro.library.sighted import Applied
from mhc_repro.runs import read_run
from own_models import DIM, LAYERS, Reference, Stack, batches, branch, seeded, stirred


def found(run):
    """What the guards found, whatever it is called."""
    return sorted(code for word, code in verdict(run).notes() if word != "not judged")


def test_an_h_res_used_transposed_is_named_and_measured_as_used(watched, capsys):
    straight = watched(seeded(Reference), name="straight", steps=2)
    assert straight.monitor.applied.finding is None
    turned = watched(seeded(lambda: Reference(turned=True)), name="turned", steps=2)
    assert found(turned.run) == ["columns_exact", "h_res_transposed"]
    assert verdict(turned.run).off_the_constraint == ()
    assert "h_res_transposed: H_res used transposed" in capsys.readouterr().err
    assert turned.monitor.applied.straight > 100 * turned.monitor.applied.transposed
    rows = {name: each.run.probe(0) for name, each in (("straight", straight), ("turned", turned))}
    # two iterations: what is normalised last is exact, and that is the rows only if comb is used as it should be
    assert rows["straight"]["row_error"].max() < 1e-5 < 1e-3 < rows["straight"]["column_error"].min()
    assert rows["turned"]["column_error"].max() < 1e-5 < 1e-3 < rows["turned"]["row_error"].min()


@pytest.mark.parametrize(
    ("straight", "transposed", "dtype", "finding"),
    [
        (1e-3, 1e-6, torch.float32, "h_res_transposed"),  # of an H_res that is nearly symmetric
        (1e-3, 1e-6, torch.bfloat16, None),
        (1e-5, 1e-7, torch.float32, None),
        (1e-3, 2e-4, torch.float32, None),
        (0.1, 1e-3, torch.bfloat16, "h_res_transposed"),
        (0.1, 0.05, torch.bfloat16, "maps_unexplained"),
        (0.04, 0.02, torch.bfloat16, None),
    ],
)
def test_which_way_round_is_told_beyond_the_rounding_of_the_streams(straight, transposed, dtype, finding):
    assert Applied(straight, transposed, torch.finfo(dtype).eps).finding == finding


@pytest.mark.parametrize(
    ("column", "row", "exact"),
    [(1e-7, 1e-2, True), (1e-7, 1e-6, False), (1e-2, 1e-7, False), (1e-2, 1e-2, False)],
)
def test_columns_are_exact_where_rows_are_not(column, row, exact):
    gains = pd.DataFrame({"column_error": [0.0, column], "row_error": [0.0, row]})
    assert columns_exact(gains) == exact


def test_what_the_streams_do_not_bear_out_is_named(watched, tmp_path):
    def wrong(module, inputs, outputs):
        return torch.full((4,), 0.25), torch.ones(4), torch.full((4, 4), 0.25)

    model = stirred(seeded(lambda: Stack("hc")))
    run = watched(model, steps=1, adapters={"HyperConnection": wrong}).run
    assert found(run) == ["maps_unexplained"]
    assert run.connection == "HyperConnection"


@pytest.mark.parametrize("blank", [1, 5])
def test_of_streams_that_are_zero_nothing_is_said(watched, blank):
    class Blank(Stack):
        def forward(self, x):
            return super().forward(x * (torch.arange(5) >= blank)[:, None])

    model = seeded(Blank)
    for layer in model.layers:
        layer.branch = nn.Identity()
    made = watched(model, steps=2)
    assert (made.monitor.applied is None) == (blank == 5)  # of all tokens, or of the first
    assert made.run.metrics["kernel/cancellation"].notna().any() == (blank == 1)


def test_a_batch_without_tokens_is_passed_over(tmp_path):
    model, x = seeded(Stack), torch.ones(2, 3, DIM)
    with GainMonitor(model, 1, tmp_path / "runs" / "mine") as monitor:
        for tokens in (3, 0, 3):
            model(x[:, :tokens]).sum().backward()
            monitor.step()
    assert read_run(monitor.path).gains["step"].unique().tolist() == [0, 2]


def test_a_part_that_is_called_twice_is_named(watched, capsys):
    class Twice(Stack):
        def forward(self, x):
            return super().forward(x) + super().forward(x.flip(0))

    model = stirred(seeded(Twice))
    assert found(watched(model, steps=2).run) == ["streams_interrupted"]
    assert capsys.readouterr().err.count("streams_interrupted") == 1
    model.forward = partial(Stack.forward, model)
    assert found(watched(model, steps=2, name="once").run) == []


def test_streams_of_two_kinds_are_refused(tmp_path):
    class Two(nn.Module):
        def __init__(self, **changes):
            super().__init__()
            self.encoder, self.decoder = Stack(), Stack(**changes)

        def forward(self, x, kept):
            return self.encoder(x).sum() + self.decoder(x[:, :kept]).sum()

    for model, kept, said in ((Two(), 3, r"\[9, 15\] tokens"), (Two(n=2), 5, r"\[2, 4\] streams")):
        monitor = GainMonitor(model, 1, tmp_path / "runs" / f"kept{kept}")
        with pytest.raises(UserError, match=said) as error:
            model(torch.ones(3, 5, DIM), kept)
        assert "\n" not in str(error.value)
        monitor.close("failed")
        with GainMonitor(model.decoder, 1, tmp_path / "runs" / f"alone{kept}") as monitor:
            model(torch.ones(3, 5, DIM), kept).backward()
            monitor.step()


def test_of_maps_whose_parameters_are_not_known_gradients_are_not_judged(watched):
    """Of an adapter's module without a part called branch, any part may be."""

    class Own(nn.Module):
        def __init__(self, branch_name):
            super().__init__()
            self.add_module(branch_name, branch())
            self.work, self.to_res = getattr(self, branch_name), nn.Linear(DIM, 16)

        def forward(self, x):
            mix = self.to_res(x.mean(2)).unflatten(-1, (4, 4)).softmax(-1)
            self.last = torch.eye(4)[0], torch.ones(4), mix
            return mix @ x + self.work(x[:, :, 0])[:, :, None]

    class Whole(nn.Module):
        def __init__(self, branch_name):
            super().__init__()
            self.layers = nn.Sequential(*(Own(branch_name) for _ in range(LAYERS)))

        def forward(self, x):
            return self.layers(x[:, :, None] * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]).sum(2)

    def last(module, *_):
        return module.last

    runs = {
        name: watched(seeded(lambda: Whole(name)), adapters={Own: last}, name=name).run  # noqa: B023
        for name in ("branch", "inner")
    }
    assert "connection_gradients_dead" in verdict(runs["inner"]).not_judged
    assert "connection_gradients_dead" not in {code for _, code in verdict(runs["branch"]).notes()}
    assert (runs["branch"].metrics["grad/norm_connection"].dropna() > 0).all()


def test_a_sub_layer_that_is_left_out_at_the_start_costs_no_verdict(watched):
    class Dropped(Stack):
        calls = 0

        def forward(self, x):
            self.calls += 1
            kept = list(self.layers)[: LAYERS - (self.calls == 1)]
            x = self.expand(x)
            for layer in kept:
                x = layer(x)
            return self.norm(self.reduce(x))

    run = watched(seeded(Dropped)).run
    assert [len(layers) for _, layers in run.gains.groupby("step")] == [LAYERS - 1, LAYERS, LAYERS]
    assert found(run) == []


def test_a_model_that_stays_in_eval_mode_is_told_once(tmp_path, capsys):
    model = seeded(Stack)
    with GainMonitor(model, 1, tmp_path / "runs" / "mine") as monitor:
        for x in batches(4):
            model(x).square().sum().backward()
            monitor.step()
            model.eval()
    assert read_run(monitor.path).gains["step"].unique().tolist() == [0]
    assert capsys.readouterr().err.count("nothing was seen for step 1: the model ran in eval mode") == 1


def test_a_callable_says_the_maps(watched):
    """The reference's own step as a module of the user's: the same rows as by the adapter of its methods."""

    class Step(nn.Module):
        def __init__(self, whole, layer):
            super().__init__()
            self.whole, self.layer = [whole], layer

        def forward(self, x):
            whole, layer = self.whole[0], self.layer
            own = whole.hc_fn[layer], whole.hc_scale[layer], whole.hc_base[layer]
            given, post, comb = Reference.hc_pre(whole, x, *own)
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
    assert run.tokens["step"].unique().tolist() == [0, 20]  # at each fifth probe


@pytest.mark.parametrize(
    ("first", "later", "apart"),
    [(1.00001, 1.00001, False), (1.0, 2.0, False), (1.01, 1.0, True)],
)
def test_of_other_code_streams_are_judged_where_its_maps_tell_them_apart(watched, first, later, apart):
    """Beyond rounding, and from the start."""
    weights = [first] * LAYERS

    def maps(module, inputs, outputs):
        weight = weights.pop() if weights else later
        return torch.tensor([weight, 1, 1, 1]), torch.ones(4), torch.eye(4)

    model = seeded(lambda: Stack("hc"))
    run = watched(model, steps=24, every=4, adapters={"HyperConnection": maps}).run
    assert ("streams_never_separated" in verdict(run).not_judged) != apart


def test_of_unlike_arms_in_one_model_one_is_doubly_stochastic_and_not_all_have_like_streams(tmp_path):
    """Also where the one is passed over later."""
    model = seeded(lambda: Stack("hc"))
    model.layers[0] = hyper_connection(branch(), "mhc_uniform", dim=DIM, layer=0)
    with GainMonitor(model, 1, tmp_path / "mine") as monitor:
        for x in batches(2):
            model(x).sum().backward()
            monitor.step()
            model.layers = model.layers[1:]
    nature = read_run(monitor.path).manifest["nature"]
    assert (nature["doubly_stochastic"], nature["exchangeable"]) == (True, False)


class Mine(nn.Module):
    """A connection of one's own with H_res = I."""

    def __init__(self):
        super().__init__()
        self.work = nn.Linear(DIM, DIM)

    def forward(self, x):
        return x + self.work(x.mean(-2))[..., None, :]


def test_beside_code_of_ours_one_of_ones_own_has_no_slope_that_is_known(watched):
    def maps(module, inputs, outputs):
        return torch.full((4,), 0.25), torch.ones(4), torch.eye(4)

    expand, reduce = expand_and_reduce("mhc", dim=DIM)
    wrapped = hyper_connection(nn.Linear(DIM, DIM), "mhc", dim=DIM, layer=0)
    model = seeded(lambda: nn.Sequential(expand, Mine(), wrapped, Mine(), reduce))
    slopes = watched(model, steps=1, adapters={Mine: maps}).run.probe(0)["gate_slope"]
    assert slopes.isna().tolist() == [True, False, True]
