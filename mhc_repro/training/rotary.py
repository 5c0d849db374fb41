"""Rotary positions (RoFormer, arXiv 2104.09864): scores depend on how far apart a query and a key are."""

import torch
from torch import Tensor

from mhc_repro.connections.wide import wide

BASE = 10_000.0


def rotate(x: Tensor) -> Tensor:
    """Turn each pair of features (i, i + d/2) of queries or keys (..., T, d) by position x BASE^(-2i/d) (Eq. 15).

    The pairs are those of GPT-NeoX. Angles are in float32 at least, the result is of the type of `x`.
    """
    time, half = x.shape[-2], x.shape[-1] // 2
    turned = wide(x)
    speeds = BASE ** (-torch.arange(half, device=x.device, dtype=turned.dtype) / half)
    angles = torch.arange(time, device=x.device, dtype=turned.dtype)[:, None] * speeds
    cos, sin = angles.cos(), angles.sin()
    first, second = turned.split(half, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(x.dtype)
