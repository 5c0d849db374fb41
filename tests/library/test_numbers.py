"""Norms of gradients of any kind, as a step of the user's leaves them."""

import pytest
import torch
from torch import nn

from mhc_repro.library.numbers import gradient_norms


def test_gradients_of_any_kind_have_norms():
    """Sparse ones, and narrow ones whose squares are out of their range."""
    dense, narrow = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 4, bias=False, dtype=torch.float16)
    dense(torch.tensor([1, 1, 2])).sum().backward()
    narrow.weight.grad = torch.full((4, 4), 300.0, dtype=torch.float16)
    model = nn.ModuleList([dense, narrow])
    norms = gradient_norms(model, [])
    assert norms.keys() == {"grad/norm"}  # of no connections
    wide = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    wide.weight.grad = torch.full((1, 1), 3.0, dtype=torch.float64)
    assert gradient_norms(nn.ModuleList([dense, wide]), [])["grad/norm"].item() == pytest.approx(29**0.5)
    assert norms["grad/norm"].item() == pytest.approx((4 * 4 + 4 * 1 + 16 * 300.0**2) ** 0.5, rel=1e-6)
