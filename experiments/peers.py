"""Other people's code against the connections here, at equal weights: how far apart h and X' come out.

Each peer is handed the same random numbers that an arm of this package has, in its own layout. What is compared is
what a sub-layer reads and what it passes on around one branch, in float32, relative to the largest of each; `wide`
numbers are thirty times as large: there Sinkhorn has not converged, and what is added or underflows counts.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro import connections
from mhc_repro.connections.ends import make_reduction
from mhc_repro.library.settings import connection_config

N, DIM, TOKENS, EPS = 4, 32, 256, 1e-6
SCALE = {"narrow": 1.0, "wide": 30.0}
Step = tuple[Tensor, Tensor]  # h (T, C) and X' (T, n, C)


class Numbers(NamedTuple):
    """What maps are made of: phi (m, features), alpha (3,), b (m,), in the order H_pre, H_post, H_res."""

    phi: Tensor
    alpha: Tensor
    bias: Tensor


class Peer(NamedTuple):
    """Other people's connection, and the arm here that should compute what it does."""

    code: str
    package: str  # whose release it is of; empty: equations typed in
    arm: str
    changes: dict[str, Any]
    features: int
    step: Callable[[Numbers, Tensor], Step]
    orientation: str


def drawn(features: int, wide: bool, share_alpha: bool = False) -> Numbers:
    """Draw numbers whose logits have a standard deviation of 1, or of 30."""
    generator = torch.Generator().manual_seed(0)
    rows = N * (N + 2) if features == N * DIM else N + 2
    phi = torch.randn(rows, features, generator=generator) / features**0.5
    bias = 0.5 * torch.randn(N * (N + 2), generator=generator)
    alpha = torch.tensor([0.8, 0.8 if share_alpha else 1.2, 1.0]) * SCALE["wide" if wide else "narrow"]
    return Numbers(phi, alpha[[0, 2, 1]], bias)


def branch(h: Tensor) -> Tensor:
    """Stand for a sub-layer's work, (T, C) -> (T, C)."""
    return h.sin()


def ours(peer: Peer, numbers: Numbers, streams: Tensor) -> Step:
    """Compute the step by the arm here."""
    module = connections.build(connection_config(peer.arm, **peer.changes), 1, DIM)
    sizes = [len(part.phi) for part in (module.read, module.write, module.mix)]  # type: ignore[union-attr, arg-type]
    kept: list[Tensor] = []
    with torch.no_grad():
        names, biases = ("read", "write", "mix"), numbers.bias.split([N, N, N * N])
        parts = zip(names, numbers.phi.split(sizes), numbers.alpha, biases, strict=True)
        for name, phi, alpha, bias in parts:
            part: Any = getattr(module, name)
            part.phi.copy_(phi)
            part.alpha.copy_(alpha)
            part.bias.copy_(bias)

        def work(h: Tensor) -> Tensor:
            kept.append(h[0])
            return branch(h)

        passed = module(streams[None], work)
    return kept[0], passed.streams[0]


def turned(numbers: Numbers) -> Numbers:
    """Hand H_res to code that stores it with the input stream first."""
    phi, bias = numbers.phi.clone(), numbers.bias.clone()
    if len(phi) == len(bias):
        phi[2 * N :] = phi[2 * N :].view(N, N, -1).transpose(0, 1).flatten(0, 1)
    bias[2 * N :] = bias[2 * N :].view(N, N).T.flatten()
    return Numbers(phi, numbers.alpha, bias)


def deepseek(eps: float) -> Callable[[Numbers, Tensor], Step]:
    """Type in the plain equations of DeepSeek's kernels, with the one epsilon that they have."""

    def step(given: Numbers, streams: Tensor) -> Step:
        fn, scale, base = turned(given)
        flat = streams.flatten(1)
        mixes = functional.linear(flat, fn) * (flat.square().mean(-1, keepdim=True) + eps).rsqrt()
        pre, post, comb = mixes.split([N, N, N * N], dim=1)
        pre = (pre * scale[0] + base[:N]).sigmoid() + eps
        post = 2 * (post * scale[1] + base[N : 2 * N]).sigmoid()
        comb = (comb * scale[2] + base[2 * N :]).view(-1, N, N).softmax(-1) + eps
        comb = comb / (comb.sum(-2, keepdim=True) + eps)
        for _ in range(19):
            comb = comb / (comb.sum(-1, keepdim=True) + eps)
            comb = comb / (comb.sum(-2, keepdim=True) + eps)
        h = (pre[..., None] * streams).sum(1)
        return h, comb.mT @ streams + post[..., None] * branch(h)[:, None]

    return step


def of_transformers() -> Any:
    """Return the settings of a DeepSeek-V4 of Hugging Face's transformers, for its connection alone."""
    from transformers import DeepseekV4Config

    return DeepseekV4Config(hidden_size=DIM, hc_mult=N, hc_sinkhorn_iters=20, hc_eps=EPS, rms_norm_eps=EPS)


@torch.no_grad()
def transformers_v4(given: Numbers, streams: Tensor) -> Step:
    """Run DeepseekV4HyperConnection, and mix as its decoder layer does."""
    from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperConnection

    module = DeepseekV4HyperConnection(of_transformers())
    for name, value in zip(("fn", "scale", "base"), (turned(given)[each] for each in (0, 1, 2)), strict=True):
        getattr(module, name).copy_(value)
    post, comb, h = module(streams[None])
    mixed = torch.matmul(comb.transpose(-1, -2), streams[None])
    return h[0], (mixed + post[..., None] * branch(h)[:, :, None])[0]


def lucidrains(kind: str) -> Callable[[Numbers, Tensor], Step]:
    """Run a module of PyPI hyper-connections: hc, mhc or v2."""

    @torch.no_grad()
    def step(given: Numbers, streams: Tensor) -> Step:
        import hyper_connections
        from hyper_connections import mHCv2

        makers = {
            "hc": hyper_connections.HyperConnections,
            "mhc": hyper_connections.ManifoldConstrainedHyperConnections,
            "v2": mHCv2.ManifoldConstrainedHyperConnections,
        }
        module = makers[kind](N, dim=DIM, layer_index=1)
        phi, alpha, bias = given
        read, write, mix = bias.split([N, N, N * N])
        # Row s of their alpha is input stream s: first what is read of it, then what it gives to each stream.
        module.static_alpha.copy_(torch.cat([read[:, None], mix.view(N, N).T], dim=1))
        module.dynamic_alpha_fn.copy_(phi[[0, *range(2, N + 2)]].T.view_as(module.dynamic_alpha_fn))
        module.static_beta.copy_(write.view_as(module.static_beta))
        module.dynamic_beta_fn.copy_(phi[1].view_as(module.dynamic_beta_fn))
        scales = ("pre_branch_scale", "h_post_scale", "residual_scale")
        if kind == "hc":
            scales = ("dynamic_alpha_scale", "dynamic_beta_scale", "dynamic_alpha_scale")
        for name, value in zip(scales, alpha, strict=True):
            getattr(module, name).fill_(value)
        folded = streams[None] if kind == "v2" else streams.movedim(1, 0)
        h, add = module(folded)
        made = add(branch(h))
        return h[0], made[0] if kind == "v2" else made.movedim(0, 1)

    return step


COMB = "stores comb = H_res transposed and multiplies by its transpose"
ALPHA = "stores H_res transposed, normalises rows first, so that columns are exact"
OF_STREAM = {"coefficients": "stream"}
PEERS = {
    "deepseek_0": Peer("DeepSeek's equations, epsilon 0", "", "mhc", {}, N * DIM, deepseek(0.0), COMB),
    "deepseek": Peer("DeepSeek's equations, epsilon 1e-6", "", "mhc", {}, N * DIM, deepseek(EPS), COMB),
    "deepseek_v4": Peer(
        "DeepSeek's equations, epsilon 1e-6", "", "deepseek_v4", {}, N * DIM, deepseek(EPS), COMB
    ),
    "transformers": Peer(
        "`DeepseekV4HyperConnection`", "transformers", "deepseek_v4", {}, N * DIM, transformers_v4, COMB
    ),
    "lucidrains_hc": Peer(
        "`HyperConnections`", "hyper-connections", "hc", {"share_alpha": True}, DIM, lucidrains("hc"),
        "stores H_res transposed",
    ),
    "lucidrains_mhc": Peer(
        "`ManifoldConstrainedHyperConnections`", "hyper-connections", "mhc_lucidrains", OF_STREAM, DIM,
        lucidrains("mhc"), ALPHA,
    ),
    "lucidrains_v2": Peer(
        "`mHCv2`", "hyper-connections", "mhc_lucidrains", OF_STREAM, DIM, lucidrains("v2"), ALPHA
    ),
}  # fmt: skip


def difference(peer: Peer, wide: bool = False) -> tuple[float, float]:
    """Return the largest difference of h and of X', each over the largest of theirs."""
    streams = torch.randn(TOKENS, N, DIM, generator=torch.Generator().manual_seed(1))
    numbers = drawn(peer.features, wide, "share_alpha" in peer.changes)
    pairs = zip(ours(peer, numbers, streams), peer.step(numbers, streams), strict=True)
    read, passed = (((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    return read, passed


@torch.no_grad()
def head_difference() -> float:
    """Return how far DeepseekV4HyperHead is from the readout of `deepseek_v4`, over the largest of its output."""
    from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4HyperHead

    streams = torch.randn(TOKENS, N, DIM, generator=torch.Generator().manual_seed(1))
    numbers = drawn(N * DIM, wide=False)
    theirs = DeepseekV4HyperHead(of_transformers())
    here = make_reduction(connection_config("deepseek_v4"), DIM, 2)
    values = {"phi": numbers.phi[:N], "alpha": numbers.alpha[0], "bias": numbers.bias[:N]}
    for name, (own, value) in zip(("hc_fn", "hc_scale", "hc_base"), values.items(), strict=True):
        getattr(theirs, name).copy_(value)
        getattr(here, own).copy_(value)
    expected = theirs(streams[None])
    return ((here(streams[None]) - expected).abs().max() / expected.abs().max()).item()


def measure() -> list[dict[str, Any]]:
    """Measure all peers that are installed: a row each, of plain values."""
    rows = []
    for peer in PEERS.values():
        (read, passed), (_, wide) = difference(peer), difference(peer, wide=True)
        changes = "".join(f" {key}={str(value).lower()}" for key, value in peer.changes.items())
        rows.append(
            {
                "code": peer.code,
                "release": f"{peer.package} {version(peer.package)}" if peer.package else "",
                "arm": peer.arm + changes,
                "read": read,
                "streams": passed,
                "wide": wide,
                "orientation": peer.orientation,
            }
        )
    release = f"transformers {version('transformers')}"
    head = {"code": "`DeepseekV4HyperHead`", "release": release, "arm": "deepseek_v4, its readout"}
    rows.append(head | {"read": head_difference(), "streams": None, "wide": None, "orientation": ""})
    return rows
