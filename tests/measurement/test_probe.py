"""The probe tells what the model applied, in the documented units, and leaves the training as it was."""

import math

import numpy as np
import pytest
import torch

from mhc_repro.config import ProbeConfig
from mhc_repro.measurement import seen
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.measurement.probe import Probe
from mhc_repro.schema import GAINS, UNITS

LAYERS, STEP = 4, 6
TOKENS = torch.arange(18).view(3, 6) % 17


def probe(**settings) -> Probe:
    fields = {"every": 2, "windows": 3, "token_maps": 5, "token_map_times": 3} | settings
    return Probe(ProbeConfig(**fields), TOKENS, steps=STEP)


def look(model) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Collect streams after each sub-layer (first: before the trunk) and H_res as (L, tokens, n, n)."""
    streams, h_res = [], []

    def observe(layer: int, x: torch.Tensor, maps, carry) -> None:
        streams.append(x.flatten(0, 1))
        if layer:
            h_res.append(maps.mix.permute(2, 0, 1))

    with torch.no_grad():
        model.eval()(TOKENS, observe)
    return streams, torch.stack(h_res).double()


def spread(x: torch.Tensor) -> float:
    """Norm of what is left when the streams' mean is taken away, over the norm of all."""
    centre = sum(x.unbind(1)) / x.shape[1]
    return math.sqrt(sum((x[:, i] - centre).square().sum() for i in range(x.shape[1])) / x.square().sum())


def test_rows_are_what_the_model_applied(tiny, arm):
    model = tiny(arm, awake=0.5)
    metrics, rows, _, tokens = probe().measure(model, STEP)
    streams, h_res = look(model)
    assert [(row["step"], row["layer"]) for row in rows] == [(STEP, layer) for layer in range(1, LAYERS + 1)]
    expected = gain_rows(h_res)
    for name in GAINS:
        assert [row[name] for row in rows] == pytest.approx([row[name] for row in expected], rel=1e-12)
        assert metrics[f"gain/{name}"] == pytest.approx(max(row[name] for row in expected), rel=1e-12)
    spreads = [spread(x) for x in streams[1:]]
    assert [row["spread"] for row in rows] == pytest.approx(spreads, rel=1e-10)
    assert metrics["streams/spread"] == pytest.approx(max(spreads), rel=1e-10)
    growth = streams[-1].abs().max() / streams[0].abs().max()
    assert metrics["gain/activation"] == pytest.approx(growth.item(), rel=1e-12)
    kept = {(row["step"], row["layer"]): row["h_res"] for row in tokens}
    assert list(kept) == [(STEP, layer) for layer in range(1, LAYERS + 1)]
    places = [0, 4, 8, 12, 17]  # evenly over the 18 tokens, both ends included
    for layer in range(1, LAYERS + 1):
        assert kept[STEP, layer] == pytest.approx(h_res[layer - 1, places].flatten().tolist(), rel=1e-12)


def test_rows_against_numpy(tiny, streams_arm):
    model = tiny(streams_arm, awake=0.5)
    _, rows, _, _ = probe().measure(model, STEP)
    h = look(model)[1].numpy()
    count, n = h.shape[1], h.shape[2]
    for layer, row in enumerate(rows):
        forward = np.stack([np.eye(n)] * count)
        for below in range(layer + 1):
            forward = h[below] @ forward
        backward = np.stack([np.eye(n)] * count)
        for above in range(layer, LAYERS):
            backward = h[above] @ backward
        means = {"single": h[layer].mean(0), "forward": forward.mean(0), "backward": backward.mean(0)}
        for name, matrix in means.items():
            assert row[f"h_{name}"] == pytest.approx(matrix.flatten().tolist(), rel=1e-10, abs=1e-13)
        per_token = {
            "single_forward": (h[layer], means["single"], 2),
            "single_backward": (h[layer], means["single"], 1),
            "composite_forward": (forward, means["forward"], 2),
            "composite_backward": (backward, means["backward"], 1),
        }
        for name, (tokens, mean, axis) in per_token.items():
            assert row[name] == pytest.approx(np.abs(mean.sum(axis - 1)).max(), rel=1e-10)
            assert row[f"{name}_token"] == pytest.approx(np.abs(tokens.sum(axis)).max(1).mean(), rel=1e-10)
            norm = np.linalg.norm(mean, {2: np.inf, 1: 1}[axis])
            assert row[f"{name}_norm"] == pytest.approx(norm, rel=1e-10)
        assert row["min_column_sum"] == pytest.approx(means["backward"].sum(0).min(), rel=1e-10)
        for name, axis in (("row_error", 2), ("column_error", 1)):
            off = np.abs(h[layer].sum(axis) - 1).max(1).mean()
            assert row[name] == pytest.approx(off, rel=1e-9, abs=1e-13)
        for name, centre in (("distance_identity", np.eye(n)), ("distance_uniform", 1 / n)):
            assert row[name] == pytest.approx(np.linalg.norm(means["single"] - centre), abs=1e-12)
        sigma = np.linalg.svd(means["forward"], compute_uv=False)
        assert row["sigma2"] == pytest.approx(sigma[1], rel=1e-9, abs=1e-12)


def test_a_baseline_has_gain_one_everywhere(tiny):
    metrics, rows, _, tokens = probe().measure(tiny("baseline"), STEP)
    ones = {f"{name}{suffix}" for name in GAINS for suffix in ("", "_token", "_norm")} | {"min_column_sum"}
    for row in rows:
        assert {row[name] for name in ones} == {1.0}
        assert {row[name] for name in ("distance_identity", "distance_uniform", "sigma2", "spread")} == {0.0}
        assert row["row_error"] == row["column_error"] == 0.0
        assert row["h_single"] == row["h_forward"] == row["h_backward"] == [1.0]
    assert {metrics[f"gain/{name}"] for name in GAINS} == {1.0}
    assert metrics["gain/activation"] != 1.0  # another quantity
    assert all(row["h_res"] == [1.0] * 5 for row in tokens)


def test_a_sub_layer_without_a_number_is_not_passed_over(tiny):
    model = tiny("hc", awake=0.5)
    with torch.no_grad():
        model.connections[-1].mix.bias.fill_(torch.nan)
    metrics, rows, _, _ = probe().measure(model, STEP)
    assert np.isfinite(rows[0]["composite_forward"])
    assert np.isnan(metrics["gain/composite_forward"])


def test_nor_is_one_in_the_spread_and_the_logits(tiny):
    model = tiny("hc", awake=0.5)
    with torch.no_grad():
        model.connections[1].mix.bias.fill_(torch.nan)
    metrics, rows, _, _ = probe().measure(model, STEP)
    assert np.isfinite([rows[0]["spread"], rows[0]["attention_logit"]]).all()
    assert np.isnan([metrics["streams/spread"], metrics["attention/logit"]]).all()


def test_an_activation_gain_is_of_the_end_and_not_of_where_it_was_largest(tiny):
    model = tiny("mhc_unconstrained", awake=0.5)
    last = model.connections[-1]
    with torch.no_grad():
        last.mix.alpha.zero_()
        last.mix.bias.fill_(1e-3)
        model.branches[-1].down.weight.zero_()
    metrics, _, _, _ = probe().measure(model, STEP)
    largest = [x.abs().max().item() for x in look(model)[0]]
    assert metrics["gain/activation"] == pytest.approx(largest[-1] / largest[0], rel=1e-12)
    assert largest[-1] < max(largest) / 2


def test_the_slope_of_a_sub_layers_gates_is_its_own(tiny):
    """Of a single pass the first makes no read that it uses, and the others do."""
    model, seen_maps = tiny("single_pass", awake=2.0), []
    _, rows, _, _ = probe().measure(model, STEP)
    with torch.no_grad():
        model.eval()(TOKENS, lambda layer, x, maps, carry: seen_maps.append(maps))
        pairs = zip(model.connections, seen_maps[1:], strict=True)
        expected = [connection.gate_slope(maps).item() for connection, maps in pairs]
        as_of_the_first = [model.connections[0].gate_slope(maps).item() for maps in seen_maps[1:]]
    assert [row["gate_slope"] for row in rows] == pytest.approx(expected, rel=1e-12)
    assert expected != pytest.approx(as_of_the_first, rel=1e-3)


@pytest.mark.parametrize("size", [1e-30, 1e-19, 1e19, 1e30])
def test_a_state_whose_squares_are_out_of_range_is_measured_all_the_same(size):
    x = torch.randn(3, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.spread(size * x), seen.spread(x), rtol=1e-5, atol=0)
    flat = x.flatten(0, 2)
    torch.testing.assert_close(
        seen.centred_rms(size * flat), size * seen.centred_rms(flat), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(seen.centred_rms(flat), flat.std(-1, correction=0), rtol=0, atol=0)


def test_every_column_is_in_the_schema(tiny):
    metrics, rows, heard, tokens = probe().measure(tiny("mhc"), STEP)
    assert set(metrics) < set(UNITS["metrics"])
    of_training = {"grad_body", "grad_connection"}
    assert all(set(row) == set(UNITS["gains"]) - of_training for row in rows[::2])
    assert all(set(row) == set(UNITS["gains"]) - of_training - {"attention_logit"} for row in rows[1::2])
    assert [row["layer"] for row in heard] == [1, 2, 3, 4, 5]
    assert all(set(row) == set(UNITS["kernel"]) for row in heard)
    assert all(set(row) == set(UNITS["tokens"]) for row in tokens)


def test_measuring_leaves_the_model_and_the_random_numbers_alone(tiny, arm):
    model = tiny(arm, awake=0.5, model={"dropout": 0.5}).train()
    torch.manual_seed(0)
    generator = torch.get_rng_state()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    tracked = []
    model.register_forward_hook(lambda *seen: tracked.append(seen[-1].requires_grad))
    first = probe().measure(model, STEP)
    assert tracked == [False]  # one forward, without a graph
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert probe().measure(model, STEP) == first  # no dropout: the same again


def test_maps_are_multiplied_in_float64(tiny):
    """Rows of 100 float32 matrices that are each 1 to rounding must not drift by more than that rounding."""
    model = tiny("mhc", awake=0.5, model={"blocks": 24}, precision="float32")
    _, rows, _, _ = probe().measure(model, STEP)
    h = look(model)[1].numpy()
    product = np.stack([np.eye(4)] * h.shape[1])
    for layer in h:
        product = layer @ product
    assert rows[-1]["h_forward"] == pytest.approx(product.mean(0).flatten().tolist(), rel=1e-12)


BRIEF = [(10, 3), (41, 10), (100, 30), (6, 2), (7, 2), (7, 3), (8, 2), (5, 1), (1, 1), (5, 20), (3, 20)]


@pytest.mark.parametrize(("steps", "every"), [(2000, 20), (1000, 20), (300, 20), *BRIEF])
def test_it_is_due_at_every_so_many_steps_and_keeps_token_maps_at_five_with_both_ends(steps, every):
    made = Probe(ProbeConfig(every=every, token_map_times=5), TOKENS, steps)
    probed = [step for step in range(steps + 1) if made.due(step)]
    assert probed == sorted({*range(0, steps + 1, every), steps})
    kept = sorted(made.token_map_steps)
    assert set(kept) <= set(probed)
    assert {0, steps} <= set(kept)
    assert len(kept) == min(5, len(probed))
    gaps = np.diff([probed.index(step) for step in kept])
    assert gaps.max() - gaps.min() <= 1  # evenly, as far as probed steps allow


def test_one_that_is_disabled_is_never_due():
    for made, count in ((probe(enabled=False), 0), (probe(), 4 + 3)):
        steps = range(STEP + 1)
        assert sum(map(made.due, steps)) + sum(map(made.takes_batch, steps)) == count


def test_token_maps_can_be_turned_off(tiny):
    for settings in ({"token_map_times": 0}, {"token_maps": 0}):
        _, _, _, tokens = probe(**settings).measure(tiny("mhc"), STEP)
        assert all(row["h_res"] == [] for row in tokens)


def test_maps_and_logits_are_those_of_the_forward(tiny):
    model = tiny("mhc", awake=0.5)
    _, rows, _, _ = probe().measure(model, STEP)
    seen: list = []
    model.eval()
    with torch.no_grad():
        model(TOKENS, lambda layer, x, maps, carry: seen.append(maps))
        x = model.embed(TOKENS)
        read = seen[1].read.T.view(3, 6, 4, 1)
        heads = model.branches[0].qkv(model.branches[0].norm((read * x[:, :, None]).sum(2)))
    for row, maps in zip(rows, seen[1:], strict=True):
        assert row["h_pre"] == pytest.approx(maps.read.mean(1).tolist(), rel=1e-12)
        assert row["h_post"] == pytest.approx(maps.write.mean(1).tolist(), rel=1e-12)
    q, k, _ = heads.numpy().reshape(3, 6, 3, 2, 4).transpose(2, 0, 3, 1, 4)
    earlier = ((t, s) for t in range(6) for s in range(t + 1))
    logits = [abs((q[:, :, t] * k[:, :, s]).sum(-1)).max() / 2 for t, s in earlier]
    assert rows[0]["attention_logit"] == pytest.approx(max(logits), rel=1e-10)


def test_a_logit_of_a_later_token_does_not_count(tiny, monkeypatch):
    attention = tiny("baseline").branches[0]
    q, k = (torch.tensor(each, dtype=torch.float64).view(1, 1, 2, 1) for each in ([100.0, 1.0], [2.0, 90.0]))
    monkeypatch.setattr(attention, "heads_of", lambda *_: (q, k, k))
    assert attention.largest_logit().item() == 200  # of the first with itself, not 9,000 with the second


def test_no_gradient_passes_a_detached_history(tiny):
    metrics, rows, _, _ = probe().measure(tiny("history_detached"), STEP)
    assert {row[key] for row in rows for key in ("single_backward", "composite_backward")} == {0.0}
    assert metrics["gain/composite_forward"] > 0.5


def test_the_largest_logit_is_that_of_all_sub_layers(tiny):
    model = tiny("mhc", awake=0.5)
    for loudest in (2, 0):
        with torch.no_grad():
            model.branches[loudest].norm.weight *= 9
        metrics, rows, _, _ = probe().measure(model, STEP)
        of_layer = {i: row["attention_logit"] for i, row in enumerate(rows) if "attention_logit" in row}
        assert list(of_layer) == [0, 2]
        assert metrics["attention/logit"] == max(of_layer.values()) == of_layer[loudest]


def test_with_a_norm_behind_the_connection_there_is_no_kernel(tiny):
    metrics, rows, heard, _ = probe().measure(tiny("mhc", model={"norm": "post"}), STEP)
    assert len(rows) == LAYERS
    assert heard == [key for key in metrics if key.startswith("kernel/")] == []
