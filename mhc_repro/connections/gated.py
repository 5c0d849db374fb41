"""Gated residual (Qwen3.8-Next, arXiv 2608.30320): n streams that are not mixed, read feature by feature.

    h = 1/n sum_i G_i * norm(X_i)        G = sigmoid(W_u SiLU(W_d vec(norm X) / n) + b)        X' = X + H_post^T y

`norm` is an RMSNorm of each stream's own, W_u and W_d have rank C/8, H_post is mHC's. The paper gives no start:
here W_u = 0, so that the gates are those of b, one number a stream, and A.6's read makes it a pre-norm net.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mhc_repro.config import ConnectionConfig, ModelConfig
from mhc_repro.connections.base import NOTHING, Carry, Connection, Cost, Maps, Passed
from mhc_repro.connections.hyper import Coefficients, values_of_streams
from mhc_repro.connections.maps import RMS_EPS, flat_features
from mhc_repro.connections.wide import product, wide

DIVISOR = 8  # of C, for the rank


class GatedConnection(Connection):
    """n streams, each feature of which has a gate of its own into the branch.

    h = mean_i G_i * g_i * X_i / rms(X_i), and the H_pre that is recorded is mean_c(G_ic g_ic) / (n rms(X_i)), a
    number a stream; so is the depth kernel then, since H_res is I. Streams are never exchangeable: W_d, which is
    drawn, tells them apart.
    """

    @classmethod
    def cost(cls, config: ConnectionConfig, model: ModelConfig) -> Cost:
        """Count as for n streams, with two thin products, 2nC C/8 each, instead of H_pre's numbers."""
        n, c = config.n, model.dim
        flops = 2 * n * c + 2 * 2 * n * c * (c // DIVISOR) + 2 * n * c + 2 * n * n * c + 2 * n * c - c
        return Cost(flops, values_of_streams(n, c, numbers=n))  # H_post's

    def __init__(self, config: ConnectionConfig, layer: int, dim: int) -> None:
        super().__init__(config, layer, dim)
        n = self.n = config.n
        home = torch.arange(n) == layer % n
        self.gain = nn.Parameter(torch.ones(n, dim))
        self.down_phi = nn.Parameter(torch.zeros(max(1, dim // DIVISOR), n * dim))
        self.phi = nn.Parameter(torch.zeros(n * dim, max(1, dim // DIVISOR)))
        self.bias = nn.Parameter(torch.where(home, config.read_start[1], config.read_start[0]).float())
        write = torch.where(home, config.write_start[1], config.write_start[0])
        self.write = Coefficients(n, n * dim, write, config.alpha)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw W_d from N(0, n/C), which makes its features of order 1."""
        features = self.down_phi.shape[1]
        self.down_phi.normal_(0, self.n / math.sqrt(features), generator=generator)

    def gate_slope(self, maps: Maps) -> Tensor:
        """Return how far H_post's gates are from saturation; the read's are one a feature and no map."""
        write = maps.write / 2
        return (4 * write * (1 - write)).mean(1).amax()

    def forward(self, streams: Tensor, branch: Callable[..., Tensor], carry: Carry = NOTHING) -> Passed:
        """Carry streams (B, T, n, C) past one sub-layer; streams and maps stay float32 or wider under autocast."""
        shape = streams.shape
        streams = wide(streams).flatten(0, 1)
        with torch.autocast(streams.device.type, enabled=False):
            scale = (streams.square().mean(2) + RMS_EPS).rsqrt()
            normed = streams * scale[..., None] * self.gain
            hidden = functional.silu(product(normed.flatten(1), self.down_phi) / self.n)
            gates = (product(hidden, self.phi).unflatten(1, (self.n, -1)) + self.bias[:, None]).sigmoid()
            h = (gates * normed).mean(1)
            assert self.write.phi is not None
            assert self.write.alpha is not None
            features = flat_features(streams, self.write.phi)
            write = 2 * (self.write.alpha * features + self.write.bias[:, None]).sigmoid()
        output = branch(h.unflatten(0, shape[:2])).flatten(0, 1).to(streams.dtype)
        streams = streams + write.T[..., None] * output[:, None]
        read = ((gates * self.gain).mean(2) * scale / self.n).T
        eye = torch.eye(self.n, dtype=streams.dtype, device=streams.device)[..., None]
        return Passed(streams.view(shape), Maps(read, write, eye.expand(-1, -1, len(streams))))
