"""A state with a power of two apart: the same function as without, to the last bit, where nothing overflows."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.config import ProbeConfig
from mhc_repro.connections.exponent import power_of_two, rescaled, to_read
from mhc_repro.measurement.probe import Probe
from mhc_repro.measurement.seen import Measured

ARMS = ("mhc_unconstrained", "mhc_exponent")
TOKENS = torch.randint(17, (3, 7), generator=torch.Generator().manual_seed(3))
EXPONENTS = {torch.float32: 126, torch.float64: 1022}


def amplifying(tiny, arm: str, factor: float, precision: str = "float64", **changes):
    """Make a model whose maps depend on the token and whose H_res are `factor` times what they would be."""
    model = tiny(arm, awake=0.3, precision=precision, **changes)
    with torch.no_grad():
        for connection in model.connections:
            connection.mix.alpha *= factor
            connection.mix.bias *= factor
    return model


class Outcome(NamedTuple):
    """What a model computes for TOKENS, and what a probe says of it."""

    logits: Tensor
    gradients: dict[str, Tensor]
    probed: Measured

    def numbers(self) -> dict[str, list[float]]:
        """Return all that was probed, by table and column, rows one behind the other."""
        found: dict[str, list[float]] = {}
        tables = {"metrics": [self.probed.metrics], "gains": self.probed.gains, "kernel": self.probed.kernel}
        for table, rows in tables.items():
            for row in rows:
                for name, value in row.items():
                    found.setdefault(f"{table} {name}", []).extend(np.atleast_1d(value).tolist())
        return found


def outcome(model) -> Outcome:
    logits = model(TOKENS[:, :-1])
    functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    measured = Probe(ProbeConfig(token_maps=0), TOKENS[:, :-1], steps=20).measure(model, 20)
    return Outcome(logits.detach(), gradients, measured)


@pytest.mark.parametrize("changes", [{}, {"reduce": "head"}, {"coefficients": "stream", "gate": "tanh"}])
@pytest.mark.parametrize(("factor", "least"), [(1.0, 0.1), (40.0, 1e6), (1e9, 1e34)])
def test_logits_gradients_and_all_that_is_probed_are_those_without_it(tiny, factor, least, changes):
    """Beyond 2^40 norms read another power of two, beside which an epsilon is nothing either."""
    plain, twin = (outcome(amplifying(tiny, arm, factor, **changes)) for arm in ARMS)
    assert plain.probed.metrics["gain/composite_forward"] > least
    torch.testing.assert_close(twin.logits, plain.logits, rtol=0, atol=1e-9)
    for name, gradient in plain.gradients.items():
        torch.testing.assert_close(twin.gradients[name], gradient, rtol=1e-9, atol=1e-9, msg=name)
    found = twin.numbers()
    assert {"metrics gain/activation", "gains spread", "gains h_pre", "kernel kappa"} <= set(found)
    for name, values in plain.numbers().items():
        assert found[name] == pytest.approx(values, rel=1e-8, abs=1e-9), name


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_in_float32_logits_are_the_same_to_the_last_bit(tiny, factor):
    """Every product and sum is the same but for a power of two; a backward adds up its parts in another order."""
    plain, twin = (outcome(amplifying(tiny, arm, factor, "float32")) for arm in ARMS)
    assert factor == 1 or plain.probed.metrics["gain/composite_forward"] > 1e6
    assert torch.equal(twin.logits, plain.logits)
    for name, gradient in plain.gradients.items():
        torch.testing.assert_close(twin.gradients[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_where_float32_overflows_it_computes_what_float64_would(tiny):
    plain, twin = (outcome(amplifying(tiny, arm, 1e11, "float32")) for arm in ARMS)
    wide = outcome(amplifying(tiny, "mhc_unconstrained", 1e11))
    assert not plain.logits.isfinite().all()
    torch.testing.assert_close(twin.logits.double(), wide.logits, rtol=0, atol=1e-3)
    assert all(gradient.isfinite().all() for gradient in twin.gradients.values())
    assert twin.probed.metrics["gain/activation"] > torch.finfo(torch.float32).max
    for name, value in wide.probed.metrics.items():
        assert twin.probed.metrics[name] == pytest.approx(value, rel=1e-3), name


def test_it_goes_on_where_float64_overflows_too(tiny):
    assert not amplifying(tiny, "mhc_unconstrained", 1e120)(TOKENS[:, :-1]).isfinite().all()
    model = amplifying(tiny, "mhc_exponent", 1e120)
    logits = model(TOKENS[:, :-1])
    functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_powers_of_two_are_exact(dtype):
    exponents = torch.arange(-EXPONENTS[dtype], EXPONENTS[dtype] + 2, dtype=torch.int32)
    assert power_of_two(exponents, dtype).tolist() == [math.ldexp(1.0, e) for e in exponents.tolist()]
    beyond = torch.tensor([-(10**6), 10**6], dtype=torch.int32)
    ends = [torch.finfo(dtype).tiny, math.ldexp(1.0, EXPONENTS[dtype] + 1)]
    assert power_of_two(beyond, dtype).tolist() == ends


@pytest.mark.parametrize(("exponent", "read"), [(0, 0), (1, 1), (40, 40), (41, 40), (300, 40)])
def test_norms_read_the_state_itself_up_to_2_40(exponent, read):
    streams = torch.arange(32.0).view(1, 4, 8)
    assert torch.equal(to_read(streams, torch.tensor([exponent])), 2.0**read * streams)


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_a_state_split_anew_is_the_same_number_and_of_order_1(dtype):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(400, 4, 8, generator=generator, dtype=dtype)
    streams = drawn * power_of_two(torch.randint(-60, 60, (400, 1, 1), generator=generator), dtype)
    exponent = torch.randint(0, 300, (400,), generator=generator, dtype=torch.int32)
    exponent[:100] = 0
    found, moved = rescaled(streams, exponent)
    back = torch.ldexp(found.double(), (moved - exponent)[:, None, None])
    assert torch.equal(back, streams.double())
    largest = found.abs().amax((1, 2))
    assert (moved >= 0).all()
    assert (largest < 1).all()
    assert (largest >= 0.5)[moved > 0].all()
    small = (exponent == 0) & (streams.abs().amax((1, 2)) < 1)
    assert small.any()
    assert torch.equal(found[small], streams[small])


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_what_is_not_finite_zero_or_as_large_as_can_be_stays_what_it_is(dtype):
    top = torch.finfo(dtype).max
    streams = torch.tensor([0.0, math.inf, -math.inf, math.nan, top], dtype=dtype)[:, None, None]
    found, exponent = rescaled(streams, torch.zeros(5, dtype=torch.int32))
    assert found[:3].flatten().tolist() == [0, math.inf, -math.inf]
    assert found[3].isnan()
    assert math.ldexp(found[4].item(), int(exponent[4])) == top
    assert found[4] < 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_code_carries_the_same_state(tiny):
    """Four sub-layers of the compiled stages, each handing on its exponent, against the plain ones."""
    results = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = amplifying(tiny, "mhc_exponent", 1e11, "float32")
        if compiled:
            model.compile_connections()
        results.append(outcome(model))
    plain, other = results
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch.testing.assert_close(other.logits, plain.logits, rtol=0, atol=1e-4)
    for name, gradient in plain.gradients.items():
        torch.testing.assert_close(other.gradients[name], gradient, rtol=1e-3, atol=1e-4, msg=name)
