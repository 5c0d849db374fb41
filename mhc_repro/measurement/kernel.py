"""The depth kernel: how much of each earlier output a sub-layer reads, which no change of basis can move.

With X_1 = u e, h_t = H_pre_t X_t and X_(t+1) = H_res_t X_t + H_post_t^T y_t, all that branch t reads is

    h_t = sum_(j < t) K[t, j] y_j        K[t, j] = H_pre_t H_res_(t-1) ... H_res_(j+1) H_post_j^T

where y_0 = e is the embedding, H_post_0 = u the expansion, and row t = L + 1 the readout. Any invertible G_l with
X_l -> G_l X_l, static or a token's own, turns H_res_l into G_(l+1) H_res_l G_l^-1 and so the composite gain into
any number; K, the branches and the logits stay. A residual net has K = 1 everywhere.

Branches and readout normalise what they read, so a row of K means something up to a factor alone, and the size of
y_j may stand in its branch's last matrix or in K. What survives both is the relative size

    kappa[t, j] = |K[t, j]| rms(y_j) / rms(h_t)        y and h centred, as the norm that follows centres h

Pure functions on tensors, tokens last; pass float64, where long products are exact.
"""

import numpy as np
import torch
from torch import Tensor

from mhc_repro.schema import Row


def depth_kernel(start: Tensor, read: Tensor, write: Tensor, mix: Tensor) -> Tensor:
    """Return K (L + 1, L + 1, N): row t - 1, column j, zero for j >= t.

    `start` (n, N) is u, `read` (L + 1, n, N) the H_pre with the readout last, `write` (L, n, N) the H_post,
    `mix` (L, n, n, N) the H_res.
    """
    layers = len(write)
    kernel = read.new_zeros(layers + 1, layers + 1, read.shape[-1])
    # What of each output so far lies in the n streams: (N, n, outputs).
    held = start.T[..., None]
    for layer in range(layers + 1):
        kernel[layer, : layer + 1] = (read[layer].T[:, None] @ held).squeeze(1).T
        if layer < layers:
            held = torch.cat([mix[layer].permute(2, 0, 1) @ held, write[layer].T[..., None]], dim=2)
    return kernel


def relative_sizes(kernel: Tensor, outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return kappa (L + 1, L + 1, N) of K and the rms of y (L + 1, N; the embedding first) and h (L + 1, N)."""
    return kernel.abs() * outputs / inputs[:, None]


def kernel_rows(kernel: Tensor, kappa: Tensor) -> list[Row]:
    """Describe each row of the kernel, the readout last: rows of the kernel table, layers 1 to L + 1.

    All are token means: `k_hat` |K| over its row's mean, `kappa` the relative sizes, `cancellation` their sum
    (1 where all that is read points one way or one output drowns the rest, the root of `effective` where outputs
    are at right angles, more where they cancel; not a row that grows, which kappa divides out), `effective`
    1 / sum of the squared shares, the number of outputs that are heard.
    """
    rows = []
    for index in range(len(kernel)):
        weights, sizes = kernel[index, : index + 1].abs(), kappa[index, : index + 1]
        share = sizes / sizes.sum(0)
        rows.append(
            {
                "layer": index + 1,
                "k_hat": (weights / weights.mean(0)).mean(1).tolist(),
                "kappa": sizes.mean(1).tolist(),
                "share": share.mean(1).tolist(),
                "cancellation": sizes.sum(0).mean().item(),
                "effective": share.square().sum(0).reciprocal().mean().item(),
            }
        )
    return rows


def one_in(parts: int, layers: int) -> int:
    """Say how many sub-layers are one in so many of all, one at least."""
    return max(1, layers // parts)


def summary(rows: list[Row]) -> Row:
    """Return the four numbers of a probe: which end of the depth the readout hears, and the worst cancellation.

    `late_share` and `early_share` are the shares of the last and of the first quarter of the sub-layers (one at
    least) in what the readout reads; the embedding's own share is in neither.
    """
    readout = rows[-1]
    share = readout["share"][1:]
    quarter = one_in(4, len(share))
    return {
        "kernel/late_share": sum(share[-quarter:]),
        "kernel/early_share": sum(share[:quarter]),
        # numpy's maximum, since Python's passes over a NaN that does not come first
        "kernel/cancellation": float(np.max([row["cancellation"] for row in rows])),
        "kernel/effective": readout["effective"],
    }
