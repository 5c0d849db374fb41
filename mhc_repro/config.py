"""The configuration schema: one dataclass per group of settings; beside each, its default, its rule and its reason.

Everything below the command line receives these plain dataclasses. `runtime` and `study` say where and how a run is
made and never change its numbers; every other group does, and is hashed into the run id (all but `data.path`: what
lies there is named by `data.sha256`). What only fits together is in `validation.py`.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from mhc_repro.corpora.texts import GIVEN, TEXTS
from mhc_repro.rules import (
    BELOW_ONE,
    DEVICE,
    EXISTS,
    FILE,
    FINITE,
    NAME,
    POSITIVE,
    SIZE,
    Rule,
    at_least,
    folder,
    one_of,
    or_null,
    pair,
    some_of,
    within,
)

# What a run may be copied to as it goes on, and the package that each is written with
TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}


def setting(default: Any, rule: Rule | None = None, of: tuple[str, ...] = ()) -> Any:
    """Return a field with its default and what it may hold; None: all of its type, or another module judges.

    `of`: the kinds of connection that know it, where not all do.
    """
    metadata = {"rule": rule, "of": of}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ConnectionConfig:
    """How a sub-layer reads from, writes to and mixes the residual streams."""

    name: str = setting("baseline", NAME)  # the arm's name in tables, figures and run ids
    # residual: x + F(x) | streams: n mixed streams | history: x is a mean of the last n states | outputs: all
    # outputs so far are read by weights | gated: n streams that are not mixed, read feature by feature
    kind: str = setting("residual", one_of("residual", "streams", "history", "outputs", "gated"))
    n: int = setting(1, SIZE)  # expansion rate
    # flat: from vec(X) under one RMSNorm (mHC Eq. 7) | stream: from each stream under its own (mHC Eq. 5)
    # | stream_layer_norm: the same under LayerNorm (2409.19606) | static: free numbers, the same for all tokens
    coefficients: str = setting(
        "flat", one_of("flat", "stream", "stream_layer_norm", "static"), of=("streams",)
    )
    # sigmoid: H_pre = s(.), H_post = 2 s(.) (mHC Eq. 8) | tanh: the dynamic part squashed, no bound (Eq. 5)
    # | softmax: H_pre and H_post each sum to 1 over the streams
    gate: str = setting("sigmoid", one_of("sigmoid", "tanh", "softmax"), of=("streams",))
    # Start of the three scalar gates on the input-dependent part
    alpha: float = setting(0.01, FINITE, of=("streams", "gated"))
    # One such gate for H_pre and H_res (2409.19606 Eq. 12-13)
    share_alpha: bool = setting(False, of=("streams",))
    # Of read (at 1/n), write (at 1), mix (at I): mHC Table 1
    freeze: list[str] = setting([], some_of("read", "write", "mix"), of=("streams",))
    branch_scale: float = setting(1.0, FINITE, of=("residual",))  # x + branch_scale F(x)
    # Static parts b_pre and b_post at the start: [elsewhere, on the home stream l mod n]
    read_start: list[float] = setting([0.0, 1.0], pair(FINITE), of=("streams", "gated"))
    write_start: list[float] = setting([1.0, 1.0], pair(FINITE), of=("streams", "gated"))
    # How H_res is parametrised: a kind of connections/mixing and that kind's own fields
    mixing: dict[str, Any] = setting({"kind": "identity"}, of=("streams", "history", "outputs"))
    # A sub-layer makes the H_pre of the next one, the last that of the readout
    single_pass: bool = setting(False, of=("streams",))
    # What H_post is times at the end of training; 1 at its start
    write_end: float = setting(1.0, POSITIVE, of=("streams",))
    # In the norms that the coefficients are made behind, and added to a sigmoid H_pre; of reduce=head in both
    # (DeepSeek: 1e-6)
    eps: float = setting(0.0, at_least(0), of=("streams",))
    # The streams leave a power of two per token to an integer: no overflow
    exponent: bool = setting(False, of=("streams",))
    # copy: the streams are copies of the embedding | lss: each scaled by learned numbers
    expand: str = setting("copy", one_of("copy", "lss"), of=("streams", "gated"))
    reduce: str = setting("sum", one_of("sum", "mean", "head"))  # head: a learned read (DeepSeek's kernels)
    expects: list[str] = setting([])  # findings that hold by construction: a control


@dataclass
class ModelConfig:
    """The body that every arm shares: GELU, tied head, no biases."""

    blocks: int = setting(8, within(1, 4096))  # a block is two sub-layers: attention, then MLP
    dim: int = setting(256, SIZE)
    heads: int = setting(8, SIZE)
    mlp_ratio: int = setting(4, SIZE)
    # At 1e-5 arms that are equal on paper differ by 1e-3 in their first logits.
    norm_eps: float = setting(1e-12, POSITIVE)
    init_std: float = setting(0.02, POSITIVE)
    dropout: float = setting(0.0, BELOW_ONE)
    # learned: a vector for each position | rope: queries and keys turned by theirs
    position: str = setting("learned", one_of("learned", "rope"))
    # pre: each branch normalises what it reads | post: each stream is normalised behind the connection instead,
    # X' = norm(H_res X + H_post^T F(H_pre X)), known to be fragile: a positive control
    norm: str = setting("pre", one_of("pre", "post"))
    # LayerNorm on queries and keys, which bounds attention's logits (2309.14322)
    qk_norm: bool = setting(False)
    # A model of one's own, which nothing here trains: what GainMonitor says it is, and its sub-layers
    own: str = setting("", Rule("empty, for GainMonitor to fill in", lambda text: text == ""))
    layers: int = setting(0, Rule("0: two a block", lambda count: count == 0))


def block_weights(dim: int, mlp_ratio: int) -> int:
    """Count the weights of a block's products: qkv, out, up and down."""
    return (4 + 2 * mlp_ratio) * dim**2


@dataclass
class DataConfig:
    """What is read, and how much of it in a step."""

    name: str = setting("enwik8", one_of(*TEXTS, *GIVEN))
    # Of text (a file or folder) and tokens (a folder); no part of the run id, sha256 is.
    path: str | None = setting(None, or_null(EXISTS))
    # Of the whole decoded file; of text and tokens what corpora/joined.py makes of it
    sha256: str = setting("")
    # What made the tokens, where their bytes are known: then losses are in bits per byte, too.
    tokeniser: str = setting("none", one_of("none", "gpt2"))
    vocab: int = setting(256, within(256, 2**16))  # byte values are the symbols
    batch: int = setting(32, SIZE)
    sequence: int = setting(128, SIZE)


@dataclass
class OptimConfig:
    """AdamW, its schedule, clipping."""

    lr: float = setting(3e-4, POSITIVE)
    betas: list[float] = setting([0.9, 0.95], pair(BELOW_ONE))
    eps: float = setting(1e-8, POSITIVE)
    weight_decay: float = setting(0.1, at_least(0))  # of the body's matrices and of phi
    decay_all: bool = setting(False)  # also of norms, embeddings, gates alpha and static maps b
    # Factor on the rate of the connections' parameters; their decay is divided by it.
    connection_lr: float = setting(1.0, POSITIVE)
    warmup: float = setting(0.05, within(0, 1))  # linear, a fraction of the steps
    # After the warm-up: cosine, to final_lr | constant
    schedule: str = setting("cosine", one_of("cosine", "constant"))
    final_lr: float = setting(0.1, within(0, 1))  # fraction of the peak at the last step
    clip: float = setting(1.0, at_least(0))  # 0 turns clipping off
    clip_apart: bool = setting(False)  # the gradients of body and connections, each by its own norm


@dataclass
class TrainConfig:
    """How long, in which numbers, and when the held-out data is read: the same windows each time."""

    steps: int = setting(2000, within(1, 10**9))
    # bfloat16 and float16: of the body's products alone (autocast), with weights, maps and loss in float32, and
    # for float16 a scaled loss
    precision: str = setting("float32", one_of("float64", "float32", "bfloat16", "float16"))
    # What the streams are rounded to between sub-layers; wide: as the weights
    streams: str = setting("wide", one_of("wide", "bfloat16", "float16"))
    val_every: int = setting(200, at_least(1))
    val_windows: int = setting(256, at_least(1))
    test_windows: int = setting(2048, at_least(1))


@dataclass
class ProbeConfig:
    """When and on what the gains are measured; the losses do not change with it."""

    every: int = setting(20, at_least(1))
    windows: int = setting(8, at_least(1))
    token_maps: int = setting(64, at_least(0))  # probe tokens whose own H_res are kept ...
    token_map_times: int = setting(5, within(0, 2**20))  # ... at this many steps
    # What gain/activation is measured on: probe, or batch: the batch just trained on, forwarded once more in
    # train mode with dropout, at steps 1, 1 + every, ...: what the enwik8 reproduction prints
    activation: str = setting("probe", one_of("probe", "batch"))
    # Beside the gains of H_res those of the net, branches included (true_gain/...), at each of these steps: by
    # power iteration, 80 forwards of 128 symbols, which take as long as two steps of quick or one of reference
    true_gain: bool = setting(False)
    enabled: bool = setting(True)


@dataclass
class RuntimeConfig:
    """Where and how it runs: nothing here changes a number by more than rounding, which grows in training."""

    device: str = setting("auto", DEVICE)
    # null: all cores, or what the unfinished run was started with; not OMP_NUM_THREADS, which torchrun sets to 1
    threads: int | None = setting(None, or_null(within(1, 1024)))
    compile: str = setting("auto", one_of("auto", "on", "off"))
    # Relative to the checkout; git ignores this one, recorded studies go to `results`
    results: str = setting("results/local")
    cache: str | None = setting(None, or_null(folder()))  # null: $MHC_REPRO_CACHE, else the platform's
    enwik8: str | None = setting(None, or_null(FILE))  # a copy that you have (plain, .gz or .zip)
    # Parts that a batch is worked off in, one after the other, to save memory
    accumulate: int = setting(1, SIZE)
    checkpoint_seconds: float = setting(60.0, at_least(0))
    progress: str = setting("auto", one_of("auto", "bar", "lines"))
    # A copy of the metrics as they come
    track: str | None = setting(None, or_null(one_of(*TRACKERS)))
    # exact: refuse another fingerprint | any: continue on another machine or thread count, and mark the run
    resume: str = setting("exact", one_of("exact", "any"))


@dataclass
class Config:
    """One run, completely."""

    seed: int = setting(0, within(0, 2**32 - 1))
    study: str = setting("scratch", NAME)  # folder under the results root
    connection: ConnectionConfig = field(default_factory=ConnectionConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def rules(schema: Any = Config, prefix: str = "") -> dict[str, Rule]:
    """Return what each setting may hold, by dotted keys; those that only another module can judge are not there."""
    found: dict[str, Rule] = {}
    for each in fields(schema):
        if is_dataclass(each.type):
            found |= rules(each.type, f"{prefix}{each.name}.")
        elif rule := each.metadata["rule"]:
            found[f"{prefix}{each.name}"] = rule
    return found


def dotted(mapping: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted keys; an empty mapping is a value."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
