"""Of narrow streams, a model cast whole and autocast, maps and readout are those of the same numbers made wide."""

from itertools import product

import pytest
import torch

from drawn_numbers import drawn
from mhc_repro.arm_files import arm_names
from mhc_repro.connections import build, make_reduction
from mhc_repro.connections.base import Carry
from own_models import stirred

DIM, LAYER = 8, 1
# In their maps, in what they hand on, or in how they are joined
UNLIKE = ("hc", "mhc", "history", "single_pass", "mhc_exponent", "attention_residuals")
NARROW = [*product(arm_names(), [torch.bfloat16]), *product(UNLIKE, [torch.float16])]


def both(make, dtype):
    """A module cast whole, and one of the numbers that are left of it, in float32."""
    narrow, wide = stirred(make()).to(dtype), make()
    wide.load_state_dict(narrow.state_dict())
    return narrow, wide


@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_maps_and_what_is_passed_on_are_those_of_the_same_numbers_in_float32_under_autocast_too(
    connection, name, dtype
):
    narrow, wide = both(lambda: build(connection(name), LAYER, DIM), dtype)
    streams = drawn(1, 5, narrow.n, DIM).to(dtype)
    given = []

    def branch(*h):
        given.append(h)
        return drawn(1, 5, DIM).to(dtype)

    expected = wide(streams.float(), branch)
    with torch.autocast("cpu", dtype):
        found = narrow(streams, branch)
    for mine, theirs in zip(found.maps, expected.maps, strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)
    assert found.streams.dtype == (dtype if name.startswith("baseline") else torch.float32)
    assert torch.allclose(found.streams.float(), expected.streams, rtol=torch.finfo(dtype).eps)
    assert all(torch.equal(mine.float(), theirs) for mine, theirs in zip(*given[::-1], strict=True))


@pytest.mark.parametrize(("name", "dtype"), NARROW)
def test_streams_are_joined_as_the_same_numbers_in_float32(connection, name, dtype):
    settings = connection(name)
    narrow, wide = both(lambda: make_reduction(settings, DIM, LAYER), dtype)
    streams = drawn(1, 5, LAYER + 1 if settings.kind == "outputs" else settings.n, DIM).to(dtype)
    exponent = torch.arange(5, dtype=torch.int32) if settings.exponent else None
    carry = Carry(exponent, drawn(settings.n, 5, dtype=torch.float32) if settings.single_pass else None)
    expected = wide(streams.float(), carry)
    with torch.autocast("cpu", dtype):
        assert torch.equal(narrow(streams, carry), expected)
