"""How a sub-layer's numbers per token become H_pre, H_post and H_res: pure functions.

Arms differ in where the numbers come from (`coefficients`), how they become H_pre and H_post (`gate`), and
H_res (`mixing`).

Letters: N tokens, n streams, C features, m = 2n + mixing.size numbers per token. Numbers and maps are stored
tokens last, (m, N), (n, N) and (n, n, N), so that sums over streams vectorise over tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.connections.base import Maps
from mhc_repro.connections.mixing import Mixing
from mhc_repro.connections.wide import product

RMS_EPS = 1e-20  # mHC Table 5


class Form(NamedTuple):
    """What tells one arm's maps from another's; hashable, so that arms share compiled code."""

    coefficients: str  # a key of FEATURES, or static
    gate: str
    mixing: Mixing
    learns_read: bool = True  # otherwise H_pre = 1/n
    learns_write: bool = True  # otherwise H_post = 1
    eps: float = 0.0  # in the norm's mean square, and added to a sigmoid H_pre (DeepSeek's kernels)


def flat_features(streams: Tensor, phi: Tensor, eps: float = RMS_EPS) -> Tensor:
    """Project vec(X) after one RMSNorm over its nC features: (N, n, C), (m, nC) -> (m, N), mHC Eq. 7.

    The norm's factor is applied after the product, so the normalised state is never written.
    """
    mean_square = torch.linalg.vector_norm(streams, dim=(1, 2)).square() / phi.shape[1]
    return product(streams.flatten(1), phi).T * (mean_square + eps).rsqrt()


def stream_features(streams: Tensor, theta: Tensor, eps: float = RMS_EPS) -> Tensor:
    """Project each stream after its own RMSNorm: (N, n, C), (k, C) -> (k n, N), mHC Eq. 5.

    Entry (k, j) is theta_k . x~_j, so column j of H_res depends on stream j.
    """
    mean_square = torch.linalg.vector_norm(streams, dim=2).square() / streams.shape[2]
    features = functional.linear(streams, theta) * (mean_square + eps).rsqrt()[..., None]
    return features.permute(2, 1, 0).flatten(0, 1)


def layer_norm_features(streams: Tensor, theta: Tensor, eps: float = RMS_EPS) -> Tensor:
    """Project each stream after its own LayerNorm without parameters, as 2409.19606 does, Eq. 10-13."""
    return stream_features(streams - streams.mean(2, keepdim=True), theta, eps)


FEATURES = {"flat": flat_features, "stream": stream_features, "stream_layer_norm": layer_norm_features}


def make_numbers(
    form: Form, streams: Tensor, phi: Tensor | None, alpha: Tensor | None, bias: Tensor
) -> tuple[Tensor, ...]:
    """Compute what H_pre, H_post and H_res are made of, alpha (x~ phi) + b: three tensors (k, N or 1)."""
    n = streams.shape[1]
    numbers = bias[:, None]  # static: one token stands for all
    if phi is not None and alpha is not None:
        features = FEATURES[form.coefficients](streams, phi, form.eps or RMS_EPS)
        if form.gate == "tanh":
            features = features.tanh()
        numbers = alpha[:, None] * features + numbers
    return numbers.split([n * form.learns_read, n * form.learns_write, form.mixing.size])


def make_gates(form: Form, streams: Tensor, read: Tensor, write: Tensor) -> tuple[Tensor, Tensor]:
    """Make H_pre and H_post of every token, (n, N) each: sigmoid, 2 sigmoid (mHC Eq. 8) | softmax over the streams.

    With `tanh` (Eq. 5) they are the numbers: what depends on the input has been bounded before.
    """
    tokens, n, _ = streams.shape
    if form.gate == "sigmoid":
        read, write = read.sigmoid(), 2 * write.sigmoid()
        read = read + form.eps if form.eps else read
    if form.gate == "softmax":
        read, write = read.softmax(0), write.softmax(0)
    if not form.learns_read:
        read = streams.new_full((n, 1), 1 / n)
    if not form.learns_write:
        write = streams.new_ones(n, 1)
    return read.expand(n, tokens), write.expand(n, tokens)


def make_maps(form: Form, streams: Tensor, phi: Tensor | None, alpha: Tensor | None, bias: Tensor) -> Maps:
    """Make all three maps of every token of streams (N, n, C)."""
    tokens, n, _ = streams.shape
    read, write, mix = make_numbers(form, streams, phi, alpha, bias)
    read, write = make_gates(form, streams, read, write)
    return Maps(read, write, form.mixing.matrix(mix).expand(n, n, tokens))
