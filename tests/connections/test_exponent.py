"""A state with a power of two apart: the same function as without, to the last bit, where nothing overflows."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.connections.exponent import power_of_two, rescaled
from mhc_repro.errors import UserError
from mhc_repro.measurement.gains import gain_rows
from mhc_repro.validation import validate

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


def outcome(model) -> tuple[Tensor, dict[str, Tensor], Tensor, list[Tensor]]:
    """Return logits, every parameter's gradient, H_res (L, N, n, n), and the state before and after sub-layers."""
    states, maps = [], []

    def observe(_, state, found) -> None:
        states.append(state.detach())
        maps.extend([] if found is None else [found.mix.detach().permute(2, 0, 1)])

    logits = model(TOKENS[:, :-1], observe)
    functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return logits.detach(), gradients, torch.stack(maps), states


def gain(h_res: Tensor) -> float:
    return max(row["composite_forward"] for row in gain_rows(h_res.double()))


@pytest.mark.parametrize("changes", [{}, {"reduce": "head"}, {"coefficients": "stream", "gate": "tanh"}])
@pytest.mark.parametrize(("factor", "least"), [(1.0, 0.1), (40.0, 1e6), (1e9, 1e34)])
def test_logits_gradients_maps_and_state_are_those_without_it(tiny, factor, least, changes):
    """Beyond 2^40 the norms see another power of two, and so what is added to their variances."""
    (logits, gradients, maps, states), (others, of_others, other_maps, other_states) = (
        outcome(amplifying(tiny, arm, factor, **changes)) for arm in ARMS
    )
    assert gain(maps) > least
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-9)
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            of_others[name], gradient, rtol=1e-9, atol=1e-9 * min(1, largest), msg=name
        )
    torch.testing.assert_close(other_maps, maps, rtol=1e-9, atol=1e-9)
    assert gain(other_maps) == pytest.approx(gain(maps), rel=1e-9)
    for state, other in zip(states, other_states, strict=True):
        torch.testing.assert_close(other, state, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_in_float32_logits_maps_and_state_are_the_same_to_the_last_bit(tiny, factor):
    """Every product and sum is the same but for a power of two; a backward adds up its parts in another order."""
    made = [amplifying(tiny, arm, factor, "float32") for arm in ARMS]
    (logits, gradients, maps, states), (others, of_others, other_maps, other_states) = map(outcome, made)
    assert factor == 1 or gain(maps) > 1e6
    assert torch.equal(others, logits)
    assert torch.equal(other_maps, maps)
    assert all(
        torch.equal(other, state.double()) for state, other in zip(states[1:], other_states[1:], strict=True)
    )
    for name, gradient in gradients.items():
        torch.testing.assert_close(of_others[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_where_float32_overflows_it_computes_what_float64_would(tiny):
    factor = 1e11
    plain, twin = (outcome(amplifying(tiny, arm, factor, "float32")) for arm in ARMS)
    wide = outcome(amplifying(tiny, "mhc_unconstrained", factor))
    assert not plain[0].isfinite().all()
    assert wide[3][-1].abs().max() > torch.finfo(torch.float32).max
    torch.testing.assert_close(twin[0].double(), wide[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(
        twin[3][-1], wide[3][-1], rtol=1e-3, atol=1e-3 * wide[3][-1].abs().max().item()
    )
    assert all(gradient.isfinite().all() for gradient in twin[1].values())


def test_it_goes_on_where_float64_overflows_too(tiny):
    logits, gradients, *_ = outcome(amplifying(tiny, "mhc_exponent", 1e120))
    assert not outcome(amplifying(tiny, "mhc_unconstrained", 1e120))[0].isfinite().all()
    assert logits.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_powers_of_two_are_exact(dtype):
    exponents = torch.arange(-EXPONENTS[dtype], EXPONENTS[dtype] + 2, dtype=torch.int32)
    assert power_of_two(exponents, dtype).tolist() == [math.ldexp(1.0, e) for e in exponents.tolist()]
    beyond = torch.tensor([-(10**6), 10**6], dtype=torch.int32)
    assert power_of_two(beyond, dtype).tolist() == [
        torch.finfo(dtype).tiny,
        math.ldexp(1.0, EXPONENTS[dtype] + 1),
    ]


@pytest.mark.parametrize("dtype", EXPONENTS)
def test_a_state_split_anew_is_the_same_number_and_of_order_1(dtype):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(400, 4, 8, generator=generator, dtype=dtype)
    streams = drawn * power_of_two(torch.randint(-60, 60, (400, 1, 1), generator=generator), dtype)
    exponent = torch.randint(0, 300, (400,), generator=generator, dtype=torch.int32)
    exponent[:100] = 0
    found, moved = rescaled(streams, exponent)
    assert torch.equal(
        torch.ldexp(found.double(), moved[:, None, None] - exponent[:, None, None]), streams.double()
    )
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
        model = amplifying(tiny, "mhc_exponent", 1e11, "float32")
        if compiled:
            model.compile_connections()
        results.append(outcome(model))
    (logits, gradients, _, states), (others, of_others, _, other_states) = results
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    torch.testing.assert_close(others, logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        other_states[-1], states[-1], rtol=1e-4, atol=1e-4 * states[-1].abs().max().item()
    )
    for name, gradient in gradients.items():
        torch.testing.assert_close(of_others[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_where_it_could_not_be_the_same_function_it_is_refused(config):
    with pytest.raises(UserError, match=r"model\.norm=post.*connection\.exponent"):
        validate(config("mhc_exponent", model={"norm": "post"}))
    with pytest.raises(UserError, match=r"connection\.exponent=true.*kind residual"):
        validate(config("baseline", exponent=True))
