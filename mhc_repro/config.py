"""The configuration schema: one dataclass per Hydra group; `validation.py` says what each field may hold.

The only module that knows Hydra's ConfigStore. Everything below the command line receives
these plain dataclasses. `runtime` and `study` say where and how a run is made and never
change its numbers; every other group does, and is hashed into the run id (all but `data.path`: what lies there is
named by `data.sha256`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ConnectionConfig:
    """How a sub-layer reads from, writes to and mixes the residual streams."""

    name: str = "baseline"  # the arm's name in tables, figures and run ids
    # residual: x + F(x) | streams: n mixed streams | history: x is a mean of the last n states
    kind: str = "residual"
    n: int = 1  # expansion rate
    # flat: from vec(X) under one RMSNorm (mHC Eq. 7) | stream: from each stream under its own (mHC Eq. 5)
    # | stream_layer_norm: the same under LayerNorm (2409.19606) | static: free numbers, the same for all tokens
    coefficients: str = "flat"
    # sigmoid: H_pre = s(.), H_post = 2 s(.) (mHC Eq. 8) | tanh: the dynamic part squashed, no bound (Eq. 5)
    # | softmax: H_pre and H_post each sum to 1 over the streams
    gate: str = "sigmoid"
    alpha: float = 0.01  # start of the three scalar gates on the input-dependent part
    share_alpha: bool = False  # one such gate for H_pre and H_res (2409.19606 Eq. 12-13)
    freeze: list[str] = field(default_factory=list)  # of read (at 1/n), write (at 1), mix (at I): mHC Table 1
    branch_scale: float = 1.0  # residual only: x + branch_scale F(x)
    # Static parts b_pre and b_post at the start: [elsewhere, on the home stream l mod n]
    read_start: list[float] = field(default_factory=lambda: [0.0, 1.0])
    write_start: list[float] = field(default_factory=lambda: [1.0, 1.0])
    # How H_res is parametrised: a kind of connections/mixing and that kind's own fields
    mixing: dict[str, Any] = field(default_factory=lambda: {"kind": "identity"})
    exponent: bool = False  # the streams leave a power of two per token to an integer: they cannot overflow
    expand: str = "copy"  # the streams are copies of the embedding | lss: each scaled by learned numbers
    reduce: str = "sum"  # sum | mean | head: a learned read (DeepSeek's kernels)
    expects: list[str] = field(default_factory=list)  # findings that hold by construction: a control


@dataclass
class ModelConfig:
    """The body that every arm shares."""

    blocks: int = 8  # a block is two sub-layers: attention, then MLP
    dim: int = 256
    heads: int = 8
    mlp_ratio: int = 4
    norm_eps: float = 1e-12
    init_std: float = 0.02
    dropout: float = 0.0
    position: str = "learned"  # a vector for each position | rope: queries and keys turned by theirs
    # pre: each branch normalises what it reads | post: each stream is normalised behind the connection instead,
    # X' = norm(H_res X + H_post^T F(H_pre X)), known to be fragile: a positive control
    norm: str = "pre"
    qk_norm: bool = False  # LayerNorm on queries and keys, which bounds attention's logits (2309.14322)
    # A model of one's own under GainMonitor, which nothing here trains: what it is, in words, and its sub-layers
    own: str = ""
    layers: int = 0  # two a block


@dataclass
class DataConfig:
    """What is read, and how much of it in a step."""

    name: str = "enwik8"  # enwik8 | enwik8_characters | synthetic | text | tokens
    path: str | None = (
        None  # of text (a file or folder) and tokens (a folder); no part of the run id, sha256 is
    )
    sha256: str = ""  # of the whole decoded file; of text and tokens what training/joined.py makes of it
    tokeniser: str = "none"  # what made the tokens, where their bytes are known: gpt2
    vocab: int = 256
    batch: int = 32
    sequence: int = 128


@dataclass
class OptimConfig:
    """AdamW, its schedule, clipping."""

    lr: float = 3e-4
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    eps: float = 1e-8
    weight_decay: float = 0.1
    decay_all: bool = False  # also norms, embeddings, gates alpha and static maps b
    connection_lr: float = (
        1.0  # factor on the rate of the connections' parameters; their decay is divided by it
    )
    warmup: float = 0.05  # fraction of the steps
    schedule: str = "cosine"  # after the warm-up: cosine, to final_lr | constant
    final_lr: float = 0.1  # fraction of the peak at the last step
    clip: float = 1.0  # 0 turns clipping off
    clip_apart: bool = False  # the gradients of body and connections, each by its own norm


@dataclass
class TrainConfig:
    """How long, in which numbers, and when the held-out data is read."""

    steps: int = 2000
    # float64 | float32 | bfloat16 | float16: the last two of the body's products alone (autocast), with weights,
    # maps and loss in float32, and for float16 a scaled loss
    precision: str = "float32"
    # What the streams are rounded to between sub-layers: wide: as the weights | bfloat16 | float16
    streams: str = "wide"
    val_every: int = 200
    val_windows: int = 256
    test_windows: int = 2048


@dataclass
class ProbeConfig:
    """When and on what the gains are measured."""

    every: int = 20
    windows: int = 8
    token_maps: int = 64  # probe tokens whose own H_res are kept ...
    token_map_times: int = 5  # ... at this many steps
    # What gain/activation is measured on: probe, or batch: the batch just trained on, forwarded once more in
    # train mode with dropout, at steps 1, 1 + every, ...: what the enwik8 reproduction prints
    activation: str = "probe"
    enabled: bool = True


@dataclass
class RuntimeConfig:
    """Where and how it runs: nothing here changes a number by more than rounding, which grows in training."""

    device: str = "auto"
    threads: int | None = None  # null: all cores, or what the unfinished run was started with
    compile: str = "auto"  # auto | on | off
    results: str = "results/local"  # results root, relative to the checkout
    cache: str | None = None  # null: the platform's cache directory
    enwik8: str | None = None  # a copy of enwik8 you already have (plain, .gz or .zip)
    accumulate: int = 1  # parts that a batch is worked off in, one after the other, to save memory
    checkpoint_seconds: float = 60.0
    progress: str = "auto"  # auto | bar | lines
    track: str | None = None  # tensorboard | wandb: a copy of the metrics as they come
    resume: str = "exact"  # exact: refuse another fingerprint | any: continue and mark the run


@dataclass
class Config:
    """One run, completely."""

    seed: int = 0
    study: str = "scratch"  # folder under the results root
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def dotted(mapping: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted keys; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def register() -> None:
    """Give Hydra the schema that `conf/config.yaml` extends: a wrong key or type then stops composition."""
    from hydra.core.config_store import ConfigStore  # the analysis reads configs and needs no Hydra

    ConfigStore.instance().store(name="schema", node=Config)
