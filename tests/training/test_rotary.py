"""Rotary positions: complex multiplication written out, and a body without a table."""

import pytest
import torch

from drawn_numbers import drawn
from mhc_repro.training.rotary import BASE, rotate


def test_a_pair_of_features_is_turned_as_a_complex_number():
    x = drawn(2, 3, 7, 8)
    turned = rotate(x)
    for position in range(7):
        for pair in range(4):
            angle = torch.tensor(position * BASE ** (-2 * pair / 8), dtype=torch.float64)
            before = torch.complex(x[..., position, pair], x[..., position, pair + 4])
            after = torch.complex(turned[..., position, pair], turned[..., position, pair + 4])
            assert torch.allclose(after, before * torch.polar(torch.ones_like(angle), angle), atol=1e-13)


@pytest.mark.parametrize(("dtype", "off"), [(torch.float32, 1e-3), (torch.bfloat16, 0.03)])
def test_narrow_numbers_are_turned_by_wide_angles_and_come_back_narrow(dtype, off):
    """An angle of 1,000 radians has an error of 4 in bfloat16, and of 6e-5 in float32."""
    x = drawn(1, 1000, 8)
    turned = rotate(x.to(dtype))
    assert turned.dtype == dtype
    assert (turned.double() - rotate(x)).abs().max() < off


def test_a_body_that_turns_has_no_table_of_positions_and_still_knows_the_order(tiny, streams_arm):
    model = tiny(streams_arm, model={"position": "rope"}, awake=0.3)
    assert not any(name.startswith("position") for name, _ in model.named_parameters())
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6]])
    with torch.no_grad():
        one, other = model(tokens)
        changed = model(torch.tensor([[1, 2, 3, 4, 5, 9]]))[0]
    assert not torch.allclose(one[-1], other[-1], atol=1e-6)
    assert torch.allclose(one[:-1], changed[:-1], atol=1e-12)  # causal
    repeated = torch.tensor([[7, 7, 7, 7, 7, 7]])
    with torch.no_grad():  # the same symbol at every distance: nothing to tell the positions by
        same = model(repeated)[0]
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-12)
