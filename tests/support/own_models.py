"""Models that are not the suite's: stacks of arms, and of other people's code; how they learn, what a look sees."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mhc_repro import expand_and_reduce, hyper_connection
from mhc_repro.library.adapters import Watch
from mhc_repro.library.finding import find

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


class Lucidrains(nn.Module):
    """A stack of PyPI hyper-connections' modules, as its README has it; `decorated`: branches apart."""

    def __init__(self, kind: str, decorated: bool = False, layers: int = LAYERS, **settings: Any) -> None:
        super().__init__()
        package = pytest.importorskip("hyper_connections.mHCv2" if kind == "v2" else "hyper_connections")
        name = "get_init_and_expand_reduce_stream_functions"
        make = getattr(package, f"mc_{name}" if kind == "mhc" else name)
        init, self.expand, self.reduce = make(4, dim=DIM, **settings)
        self.branches = nn.ModuleList(branch() for _ in range(layers))
        given = [None] * layers if decorated else self.branches
        self.layers = nn.ModuleList(init(branch=each, layer_index=i) for i, each in enumerate(given))
        self.decorated = decorated

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        for layer, work in zip(self.layers, self.branches, strict=True):
            if self.decorated:
                h, add = layer(x)
                x = add(work(h))
            else:
                x = layer(x)
        return self.reduce(x)


def of_transformers(name: str, kind: str, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.Module:
    """Make a seeded model of transformers by the names of its family and class; skip where it is not installed."""
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{name}Config")(**settings)
    return seeded(lambda: getattr(transformers, name + kind)(config)).to(dtype)


def deepseek_v4(layers: int = LAYERS) -> nn.Module:
    """Make a small model of `layers` sub-layers, two to a layer of its own."""
    sizes = dict(
        vocab_size=32, hidden_size=32, num_hidden_layers=layers // 2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, qk_rope_head_dim=8, q_lora_rank=16, o_lora_rank=16, o_groups=2, index_n_heads=2,
        index_head_dim=16, index_topk=4, moe_intermediate_size=16, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, num_hash_layers=0, sliding_window=8, max_position_embeddings=32, hc_mult=4,
        hc_sinkhorn_iters=2, layer_types=["sliding_attention"] * (layers // 2),
        mlp_layer_types=["moe"] * (layers // 2),
    )  # fmt: skip
    return of_transformers("DeepseekV4", "ForCausalLM", torch.float32, **sizes)


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


def descend(
    parameters: Any, losses: Iterable[Tensor], each: Callable[[Tensor], None] = lambda _: None
) -> None:
    """Make an update for every loss, each computed when its turn comes; `each` is called with it behind that."""
    optimizer = torch.optim.AdamW(parameters, 1e-2)
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        each(loss)


def train(
    model: nn.Module,
    steps: int,
    each: Callable[[Tensor], None] = lambda _: None,
    forward: Any = None,
    seed: int = 0,
) -> None:
    """Train on a task with an answer."""
    torch.manual_seed(seed)
    forward = model if forward is None else forward
    losses = ((forward(x) - x.roll(1, -1)).square().mean() for x in batches(steps, seed))
    descend(model.parameters(), losses, each)


def heard(module: nn.Module, given: Callable[..., Any] = lambda args: args[0]) -> list[tuple[Any, Any]]:
    """Keep what a module is given and what it makes."""
    kept: list[tuple[Any, Any]] = []
    module.register_forward_hook(lambda _, args, output: kept.append((given(args), output)))
    return kept


def looked_at(model: nn.Module, *inputs: Tensor) -> tuple[Watch, Any]:
    """Run a model once under its adapters."""
    watch = Watch(tokens=1000)
    with ExitStack() as undo, torch.no_grad():
        for found in find(model, {}):
            found.adapter.attach(found.module, watch, undo)
        return watch, model(*inputs)


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
