"""Narrow numbers made wide: whatever a model is cast to, maps are made in float32 or wider."""

import torch
from torch import Tensor

from mhc_repro.linear import linear


def wide(x: Tensor) -> Tensor:
    """Return x in float32 or wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the last axis of x (..., in) by weight (out, in), in the dtype of x: (..., out)."""
    return linear(x, weight.to(x.dtype))
