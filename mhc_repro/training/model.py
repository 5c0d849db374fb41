"""A Transformer over symbols whose residual connections are exchangeable.

Sub-layers l = 1..L with L = 2 x blocks: attention and MLP each own a connection. Streams are made
once from the embedding, persist through the whole trunk and are reduced once, before the final
norm and the tied head. No biases anywhere; every body matrix is drawn from N(0, init_std^2).

Two things may be narrower than float32 (mhc_repro/config.py, `train`): the body's products, by autocast, and
what is kept of the streams between sub-layers. Weights, maps and logits never are.
"""

import math
from collections.abc import Callable, Collection, Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from mhc_repro import connections
from mhc_repro.config import Config, ModelConfig
from mhc_repro.connections import Carry, Maps
from mhc_repro.linear import Linear, linear
from mhc_repro.training.rotary import rotate
from mhc_repro.training.seeds import stream_seed

CONNECTION = ("connections.", "expansion.", "reduction.")  # how the names of an arm's own parameters begin
# Of layer, streams, maps, what is handed on; before the trunk 0 and no maps
Observer = Callable[[int, Tensor, Maps | None, Carry], None]
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def make_head_norm(config: ModelConfig) -> nn.Module:
    """Make what normalises a head's queries or keys before their product: (..., C / heads), none by default."""
    if not config.qk_norm:
        return nn.Identity()
    return nn.LayerNorm(config.dim // config.heads, config.norm_eps, bias=False)


class Attention(nn.Module):
    """Norm (unless behind the connection), then causal multi-head self-attention: (B, T, C) -> (B, T, C).

    Of one x, or of three of their own for queries, keys and values.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.pre = config.norm == "pre"
        self.turned = config.position == "rope"
        self.norm = nn.LayerNorm(config.dim, config.norm_eps, bias=False)
        self.qkv = Linear(config.dim, 3 * config.dim)
        self.out = Linear(config.dim, config.dim)
        self.q_norm, self.k_norm = make_head_norm(config), make_head_norm(config)

    def forward(self, *x: Tensor) -> Tensor:
        """Let each token attend to those up to itself: one or three (B, T, C) -> (B, T, C)."""
        q, k, v = self.heads_of(*x)
        dropout = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.out(rearrange(y, "b h t d -> b t (h d)"))

    def heads_of(self, *x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make queries, keys and values of every head: one or three (B, T, C) -> three (B, heads, T, C / heads)."""
        x = tuple(self.norm(each) for each in x) if self.pre else x
        if len(x) == 1:
            made = self.qkv(x[0])
        else:
            parts = zip(x, self.qkv.weight.chunk(3), strict=True)
            made = torch.cat([linear(each, weight) for each, weight in parts], dim=-1)
        q, k, v = rearrange(made, "b t (three h d) -> three b h t d", three=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        return (rotate(q), rotate(k), v) if self.turned else (q, k, v)

    def largest_logit(self, *x: Tensor) -> Tensor:
        """Return the largest absolute logit, q k / sqrt(C / heads), of a token and one it attends to."""
        q, k, _ = self.heads_of(*x)
        return (q @ k.mT / math.sqrt(q.shape[-1])).tril().abs().amax().to(self.norm.weight.dtype)


class MLP(nn.Module):
    """Norm (unless behind the connection), then two linear maps around a GELU: (B, T, C) -> (B, T, C)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.pre = config.norm == "pre"
        self.norm = nn.LayerNorm(config.dim, config.norm_eps, bias=False)
        self.up = Linear(config.dim, config.mlp_ratio * config.dim)
        self.down = Linear(config.mlp_ratio * config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Work on each token by itself: (B, T, C) -> (B, T, C)."""
        x = functional.gelu(self.up(self.norm(x) if self.pre else x))
        x = functional.dropout(x, self.dropout, self.training)
        return functional.dropout(self.down(x), self.dropout, self.training)


class Transformer(nn.Module):
    """The body of `config` with one of its connections around each sub-layer."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        body, arm, data, dim = config.model, config.connection, config.data, config.model.dim
        self.autocast_dtype = HALVES.get(config.train.precision)
        self.stream_dtype = HALVES.get(config.train.streams)
        self.post = body.norm == "post"
        self.dropout = body.dropout
        self.embedding = nn.Embedding(data.vocab, dim)
        self.position = nn.Embedding(data.sequence, dim) if body.position == "learned" else None
        blocks = range(body.blocks)
        self.branches = nn.ModuleList(branch for _ in blocks for branch in (Attention(body), MLP(body)))
        self.norm = nn.LayerNorm(dim, body.norm_eps, bias=False)
        self.expansion = connections.make_expansion(arm, dim)
        layers = range(len(self.branches))
        self.connections = nn.ModuleList(connections.build(arm, layer, dim) for layer in layers)
        self.reduction = connections.make_reduction(arm, dim, len(self.branches))

    def forward(
        self, tokens: Tensor, observe: Observer | None = None, silent: Collection[int] = ()
    ) -> Tensor:
        """Predict the next symbol: tokens (B, T) -> logits (B, T, vocab), float32 or wider.

        `silent` sub-layers (from 1) mix the streams and write nothing.
        """
        with torch.autocast(tokens.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            logits = linear(self.trunk(self.embed(tokens), observe, silent), self.embedding.weight)
        return logits.to(self.norm.weight.dtype)

    def embed(self, tokens: Tensor) -> Tensor:
        """Make what the streams are made of: (B, T) -> (B, T, C)."""
        x = self.embedding(tokens)
        if self.position is not None:
            x = x + self.position.weight[: tokens.shape[1]]
        return functional.dropout(x, self.dropout, self.training)

    def trunk(self, x: Tensor, observe: Observer | None = None, silent: Collection[int] = ()) -> Tensor:
        """Carry embeddings (B, T, C) past all sub-layers and the final norm: (B, T, C)."""
        streams, carry = self.through(self.expanded(x), observe, silent)
        return self.norm(self.reduction(streams, carry))

    def expanded(self, x: Tensor) -> Tensor:
        """Make the streams that sub-layer 1 is given: (B, T, C) -> (B, T, n, C)."""
        return self._rounded(self.expansion(x))

    def through(
        self, streams: Tensor, observe: Observer | None = None, silent: Collection[int] = ()
    ) -> tuple[Tensor, Carry]:
        """Carry streams (B, T, n, C) past all sub-layers; return them and what the last hands on."""
        carry = Carry()
        if observe:  # what is measured is not rounded on the way
            observe = torch.autocast(streams.device.type, enabled=False)(observe)
            observe(0, streams, None, carry)
        for layer, (connection, branch) in enumerate(zip(self.connections, self.branches, strict=True), 1):
            work = _nothing if layer in silent else branch
            streams, maps, carry = connection(streams, work, carry)
            if self.post:
                streams = branch.norm(streams)  # type: ignore[operator]
            streams = self._rounded(streams)
            if observe:
                observe(layer, streams, maps, carry)
        return streams, carry

    def _rounded(self, streams: Tensor) -> Tensor:
        # There and back: the gradients of the streams are rounded as well, and the arithmetic stays wide.
        return streams if self.stream_dtype is None else streams.to(self.stream_dtype).to(streams.dtype)

    def at(self, progress: float) -> None:
        """Tell the connections how much of the training is done, 0 to 1."""
        for connection in self.connections:
            connection.at(progress)  # type: ignore[operator]

    def body_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name the parameters that every arm shares, in an order no connection can change."""
        return ((name, p) for name, p in self.named_parameters() if not name.startswith(CONNECTION))

    def connection_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name the parameters that belong to the connections."""
        return ((name, p) for name, p in self.named_parameters() if name.startswith(CONNECTION))

    def compile_connections(self) -> None:
        """Use the compiled form of the connections in training steps, whose shape is fixed."""
        for connection in self.connections:
            connection.compiled = True  # type: ignore[assignment]

    @torch.no_grad()
    def draw(self, generator: torch.Generator, std: float) -> None:
        """Draw every body matrix and embedding from N(0, std^2); norms stay 1, connections at their start."""
        for _, parameter in self.body_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, std, generator=generator)


def _nothing(h: Tensor, *_: Tensor) -> Tensor:
    return torch.zeros_like(h)


def make_model(config: Config, seed: int) -> Transformer:
    """Make the model of a seed: body weights depend on the seed and the body alone, never on the arm."""
    model = Transformer(config)
    model.draw(torch.Generator().manual_seed(seed), config.model.init_std)
    model.expansion.draw(torch.Generator().manual_seed(stream_seed("expansion", seed)))
    generator = torch.Generator().manual_seed(stream_seed("connections", seed))
    for connection in model.connections:
        assert isinstance(connection, connections.Connection)
        connection.draw(generator)
        connection.seeded_each_step = True
    model.reduction.draw(generator)
    return model.to(torch.float64 if config.train.precision == "float64" else torch.float32)
