"""Models that are not the suite's: stacks of this package's arms, and mHC as DeepSeek's reference writes it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mhc_repro import expand_and_reduce, hyper_connection

DIM, LAYERS = 8, 4


def branch(dim: int = DIM, dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh(), nn.Dropout(dropout))


class Stack(nn.Module):
    """Some sub-layers of an arm: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, arm: str = "mhc", dropout: float = 0.0, **changes: Any) -> None:
        super().__init__()
        self.expand, self.reduce = expand_and_reduce(arm, dim=DIM, **changes)
        self.layers = nn.ModuleList(
            hyper_connection(branch(dropout=dropout), arm, dim=DIM, layer=layer, **changes)
            for layer in range(LAYERS)
        )
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        for layer in self.layers:
            x = layer(x)
        return self.norm(self.reduce(x))


class Reference(nn.Module):
    """mHC as DeepSeek's reference has it, method for method; `turned`: comb multiplies the streams as it stands."""

    def __init__(self, turned: bool = False, iterations: int = 2, n: int = 4) -> None:
        super().__init__()
        self.n, self.turned, self.iterations = n, turned, iterations
        self.norm_eps = self.hc_eps = 1e-6
        rows = (2 + n) * n
        self.hc_fn = nn.ParameterList(nn.Parameter(torch.randn(rows, n * DIM) / 3) for _ in range(LAYERS))
        self.hc_base = nn.ParameterList(nn.Parameter(torch.randn(rows)) for _ in range(LAYERS))
        self.hc_scale = nn.ParameterList(nn.Parameter(torch.ones(3)) for _ in range(LAYERS))
        self.branches = nn.ModuleList(branch() for _ in range(LAYERS))

    def hc_pre(self, x: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> tuple[Tensor, ...]:
        flat = x.flatten(2)
        numbers = flat @ fn.T * (flat.square().mean(-1, keepdim=True) + self.norm_eps).rsqrt()
        pre, post, comb = self._parts(numbers, scale, base)
        comb = comb.softmax(-1) + self.hc_eps
        comb = comb / (comb.sum(-2, keepdim=True) + self.hc_eps)
        for _ in range(self.iterations - 1):
            comb = comb / (comb.sum(-1, keepdim=True) + self.hc_eps)
            comb = comb / (comb.sum(-2, keepdim=True) + self.hc_eps)
        pre = pre.sigmoid() + self.hc_eps
        return (pre[..., None] * x).sum(2), 2 * post.sigmoid(), comb

    def _parts(self, numbers: Tensor, scale: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = self.n
        widths = [n, n, n * n]
        parts = zip(numbers.split(widths, -1), scale, base.split(widths), strict=True)
        pre, post, comb = (part * s + b for part, s, b in parts)
        return pre, post, comb.unflatten(-1, (n, n))

    def hc_post(self, y: Tensor, x: Tensor, post: Tensor, comb: Tensor) -> Tensor:
        mixed = (comb if self.turned else comb.mT) @ x
        return post[..., None] * y[..., None, :] + mixed

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, None].repeat(1, 1, self.n, 1)
        for layer, work in enumerate(self.branches):
            given, post, comb = self.hc_pre(x, self.hc_fn[layer], self.hc_scale[layer], self.hc_base[layer])
            x = self.hc_post(work(given), x, post, comb)
        return x.sum(2)


def batches(steps: int, seed: int = 0, shape: tuple[int, ...] = (3, 5)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, DIM, generator=generator) for _ in range(steps)]


def train(
    model: nn.Module,
    steps: int,
    each: Callable[[Tensor], None] = lambda loss: None,
    forward: Any = None,
    seed: int = 0,
) -> None:
    """Train on a task with an answer; `each` is called with the loss behind every update."""
    torch.manual_seed(seed)
    forward = model if forward is None else forward
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for x in batches(steps, seed):
        loss = (forward(x) - x.roll(1, -1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        each(loss)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


def stirred(model: nn.Module, seed: int = 0, by: float = 0.3) -> nn.Module:
    """Move every parameter, so that no map is at its start and none is alike for all tokens."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model
