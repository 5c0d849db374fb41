"""Amax gains of stacks of H_res (mHC, arXiv 2512.24880, Sec. 3.1): pure functions on tensors.

H_res comes as (L, N, n, n), sub-layers first, then tokens, row i holding the weights that form
output stream i. A row sum is what a signal that all streams share is multiplied by on its way forward, a column
sum the same of the gradient on its way back; where entries have both signs neither bounds anything else.
The two composites at sub-layer l are different products:

    forward   H_l H_(l-1) ... H_1        from the input up to l
    backward  H_L H_(L-1) ... H_l        from l up to the output

Products are taken per token, then averaged over tokens; the gain is the largest |row sum|
(|column sum|), signed entries summed as they are. A residual baseline has gain exactly 1 everywhere.
"""

from itertools import accumulate

import torch
from torch import Tensor

from mhc_repro.schema import GAINS, Row


def composite_forward(h_res: Tensor) -> Tensor:
    """Multiply H_l ... H_1 for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    return torch.stack([*accumulate(h_res, lambda product, h: h @ product)])


def composite_backward(h_res: Tensor) -> Tensor:
    """Multiply H_L ... H_l for every l: (L, ..., n, n) -> (L, ..., n, n)."""
    return torch.stack([*accumulate(h_res.flip(0), torch.matmul)]).flip(0)


def amax_gain(matrix: Tensor, summed: int = -1) -> Tensor:
    """Return the largest |row sum|, or with `summed` -2 |column sum|: (..., n, n) -> (...)."""
    return matrix.sum(summed).abs().amax(-1)


def gain_rows(h_res: Tensor, detached: bool = False) -> list[Row]:
    """Describe each sub-layer of h_res (L, N, n, n): one row of the gains table each, layers from 1.

    Gains as mHC Sec. 3.1 defines them, `_token` with the maximum before the mean over tokens, `_norm` with
    absolute entries; distances and matrices are of the token mean, `row_error` and `column_error` the mean
    over tokens of the sum that is furthest from 1, which a mean matrix would hide. `detached`: no gradient
    passes H_res, so its backward gains are 0. Computed in the dtype given: pass float64, where long products
    are exact. Raises ValueError for another shape.
    """
    if h_res.dim() != 4 or h_res.shape[-1] != h_res.shape[-2]:
        raise ValueError(f"h_res has shape {tuple(h_res.shape)}; it must be (L, N, n, n)")
    n = h_res.shape[-1]
    seen_by_gradient = torch.zeros_like(h_res) if detached else h_res
    products = {
        "single_forward": h_res,
        "single_backward": seen_by_gradient,
        "composite_forward": composite_forward(h_res),
        "composite_backward": composite_backward(seen_by_gradient),
    }
    means = {name: product.mean(1) for name, product in products.items()}
    columns: dict[str, Tensor] = {}
    for name, product in products.items():
        summed = -1 if name.endswith("forward") else -2
        columns[name] = amax_gain(means[name], summed)
        columns[f"{name}_token"] = amax_gain(product, summed).mean(1)
        columns[f"{name}_norm"] = means[name].abs().sum(summed).amax(-1)
    single, forward, backward = (means[name] for name in ("single_forward", *GAINS[2:]))
    eye = torch.eye(n, dtype=h_res.dtype)
    columns["min_column_sum"] = backward.sum(-2).amin(-1)
    for name, summed in (("row_error", -1), ("column_error", -2)):
        columns[name] = (h_res.sum(summed) - 1).abs().amax(-1).mean(1)
    columns["distance_identity"] = (single - eye).flatten(1).norm(dim=1)
    columns["distance_uniform"] = (single - 1 / n).flatten(1).norm(dim=1)
    columns["sigma2"] = second_singular_value(forward)
    columns["h_single"], columns["h_forward"], columns["h_backward"] = (
        mean.flatten(1) for mean in (single, forward, backward)
    )
    lists = {name: column.tolist() for name, column in columns.items()}
    return [
        {"layer": index + 1} | {name: values[index] for name, values in lists.items()}
        for index in range(len(h_res))
    ]


def second_singular_value(matrix: Tensor) -> Tensor:
    """Return sigma_2: (L, n, n) -> (L,); 0 for a number, not a number where the matrix is not finite."""
    if matrix.shape[-1] == 1:
        return matrix.new_zeros(len(matrix))
    finite = matrix.isfinite().all(-1).all(-1)
    safe = torch.where(finite[:, None, None], matrix, torch.zeros_like(matrix))
    return torch.linalg.svdvals(safe)[:, 1].where(finite, torch.nan)
