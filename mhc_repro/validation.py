"""Is a config one that can run? `validate` raises UserError with the first field that is wrong.

Types are Hydra's business, what each field may hold alone is said in the schema, a kind of connection
checks its own forms of H_res. What is left are fields that only fit together.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from mhc_repro import world
from mhc_repro.config import TRACKERS, Config, ConnectionConfig, OptimConfig, ProbeConfig, rules
from mhc_repro.corpora import given
from mhc_repro.corpora.texts import GIVEN, TEXTS, Text
from mhc_repro.errors import UserError
from mhc_repro.places import BENCH, FIGURES, LOCAL, is_recorded, results_root
from mhc_repro.reasons import REASONS
from mhc_repro.rules import folder, some_of
from mhc_repro.words import assignment

FIXED = {"read": ("share_alpha", "single_pass"), "write": (), "mix": ("share_alpha",)}  # by what is frozen
RESERVED = (BENCH, FIGURES, Path(LOCAL).name)  # folders beside the studies under a results root


RULES = rules() | {  # and those whose words are another module's
    "connection.expects": some_of(*REASONS),
    "runtime.results": folder(results_root),
}


def validate(config: Config) -> None:
    """Raise UserError for the first field that is out of range or does not fit the others."""
    _check_ranges(config, RULES)
    _check_body(config)
    _check_unused_settings(config)
    _check_streams(config)
    _check_parts(config)
    _check_windows(config, _check_data(config))
    _check_place(config)
    _check_tracker(config.runtime.track)


def validate_connection(config: Config) -> None:
    """Raise UserError for the first field of `connection` that is out of range or does not fit the others."""
    _check_ranges(config, [key for key in RULES if key.startswith("connection.")])
    _check_streams(config)


def _check_ranges(config: Config, keys: Iterable[str]) -> None:
    defaults = Config()
    for key in keys:
        rule, value = RULES[key], attrgetter(key)(config)
        if not rule.holds(value):
            raise _wrong(key, value, f"must be {rule.allowed}", attrgetter(key)(defaults))


def _wrong(key: str, value: Any, why: str, example: Any) -> UserError:
    return UserError(f"{assignment(key, value)}: {why}; for example {assignment(key, example)}")


def _check_body(config: Config) -> None:
    dim, heads = config.model.dim, config.model.heads
    if dim % heads:
        multiple = max(1, round(dim / heads)) * heads
        divisor = min((each for each in range(1, dim + 1) if dim % each == 0), key=lambda n: abs(n - heads))
        why = f"must be a multiple of model.heads={heads}"
        raise _wrong("model.dim", dim, why, f"{multiple}, or model.heads={divisor}")
    if config.model.position == "rope" and dim // heads % 2:
        why = f"rope turns pairs of features, and a head of model.heads={heads} has {dim // heads}"
        raise _wrong("model.dim", dim, why, 2 * heads * math.ceil(dim / heads / 2))
    if config.model.qk_norm and dim == heads:
        why = "a head of one feature has nothing left behind a LayerNorm"
        raise _wrong("model.qk_norm", True, why, f"false, or model.heads={max(1, heads // 2)}")
    if config.model.norm == "post" and config.connection.kind in ("history", "outputs"):
        why = "its older states would be normalised at every sub-layer again"
        raise _wrong("model.norm", "post", why, "pre")
    if config.model.norm == "post" and config.connection.exponent:
        why = "bounds the streams itself, which is all that connection.exponent=true is for"
        raise _wrong("model.norm", "post", why, "pre")
    if config.train.precision == "float64" and config.runtime.device == "mps":
        raise _wrong("train.precision", "float64", "runtime.device=mps has no such numbers", "float32")
    if config.probe.true_gain and config.train.streams != "wide":
        why = f"the small differences that it is made of are lost in train.streams={config.train.streams}"
        raise _wrong("probe.true_gain", True, why, False)


def _check_unused_settings(config: Config) -> None:
    optim, default = config.optim, OptimConfig()
    unused: dict[str, str] = {}
    if config.connection.kind == "residual":
        unused |= dict.fromkeys(
            ("connection_lr", "clip_apart"), "connection.kind=residual, which learns nothing"
        )
    if optim.clip == 0:
        unused["clip_apart"] = "optim.clip=0"
    if optim.weight_decay == 0:
        unused["decay_all"] = "optim.weight_decay=0"
    if optim.schedule == "constant":
        unused["final_lr"] = "optim.schedule=constant"
    if optim.warmup == 1:
        unused |= dict.fromkeys(("schedule", "final_lr"), "optim.warmup=1")
    _check_unused("optim", optim, default, unused)
    if not config.probe.enabled:
        of_probe = dict.fromkeys(("activation", "true_gain"), "probe.enabled=false")
        _check_unused("probe", config.probe, ProbeConfig(), of_probe)


def _check_unused(group: str, settings: Any, default: Any, unused: Mapping[str, str]) -> None:
    for key, of in unused.items():
        if getattr(settings, key) != getattr(default, key):
            why = f"nothing for {of}, and would only make another id"
            raise _wrong(f"{group}.{key}", getattr(settings, key), why, getattr(default, key))


def unused_by(kind: str) -> list[str]:
    """List the settings that a kind of connection does not know."""
    known_to = {each.name: each.metadata["of"] for each in fields(ConnectionConfig)}
    return [key for key, kinds in known_to.items() if kinds and kind not in kinds]


def _check_streams(config: Config) -> None:
    connection, default = config.connection, ConnectionConfig()
    if connection.kind == "residual" and connection.n != 1:
        raise _wrong("connection.n", connection.n, "a plain residual connection has one stream", 1)
    unused = dict.fromkeys(unused_by(connection.kind), f"a connection of kind {connection.kind}")
    if connection.kind == "streams":
        unused |= {key: f"connection.freeze=[{part}]" for part in connection.freeze for key in FIXED[part]}
    if connection.kind == "streams" and connection.coefficients == "static":
        unused["share_alpha"] = of_static = "maps of connection.coefficients=static"
        if connection.reduce != "head":
            unused["alpha"] = of_static
            if connection.gate != "sigmoid" or "read" in connection.freeze:
                unused["eps"] = of_static
    _check_unused("connection", connection, default, unused)
    if (connection.kind in ("residual", "history") or connection.n == 1) and connection.reduce == "head":
        why = f"a connection of kind {connection.kind} and n {connection.n} has one stream to read at the end"
        raise _wrong("connection.reduce", connection.reduce, why, default.reduce)
    if (connection.kind == "outputs" or connection.single_pass) and connection.reduce != default.reduce:
        why = "its last outputs are read as any sub-layer reads them"
        raise _wrong("connection.reduce", connection.reduce, why, default.reduce)
    if connection.kind == "outputs" and connection.n != 1:
        raise _wrong("connection.n", connection.n, "all outputs are kept, and there is one at the start", 1)
    if connection.kind == "residual":
        return
    if "mix" in connection.freeze and connection.mixing.get("kind") == "identity":
        raise _wrong("connection.freeze", connection.freeze, "H_res of this arm is I as it is", [])
    from mhc_repro import connections  # torch is slow to load: every other mistake is found first

    connections.KINDS[connection.kind].check(connection)


def _check_parts(config: Config) -> None:
    batch, processes = config.data.batch, world.size()
    parts = config.runtime.accumulate * processes
    of = f", in each of {processes} processes" if processes > 1 else ""
    if batch % parts:
        fitting = [each for each in range(1, parts) if batch % (each * processes) == 0]
        if not fitting:
            why = f"{processes} processes cannot share it evenly"
            raise _wrong("data.batch", batch, why, processes * max(1, batch // processes))
        why = f"must divide data.batch={batch}{of}"
        raise _wrong("runtime.accumulate", config.runtime.accumulate, why, fitting[-1])
    if parts > 1 and config.model.dropout:
        key, value = "runtime.accumulate", config.runtime.accumulate
        if processes > 1:
            key, value = "torchrun --nproc-per-node", processes
        why = f"each part would draw masks of its own under model.dropout={config.model.dropout}"
        raise _wrong(key, value, why, 1)


def _check_data(config: Config) -> Text:
    data = config.data
    if data.path is not None and data.name not in GIVEN:
        raise _wrong("data.path", data.path, f"data={data.name} is not read from there", None)
    text = given.find(data).text() if data.name in GIVEN else TEXTS[data.name]
    given.require(data, text.sha256)
    if data.tokeniser != "none" and data.name != "tokens":
        raise _wrong("data.tokeniser", data.tokeniser, f"data={data.name} is not made of tokens", "none")
    symbols = max(text.symbols, given.GPT2 if data.tokeniser == "gpt2" else 0)
    if data.vocab < symbols:
        raise _wrong("data.vocab", data.vocab, f"{data.name} has {symbols:,} symbols", symbols)
    return text


def _check_windows(config: Config, text: Text) -> None:
    length, total = config.data.sequence + 1, text.held_out
    if length > total:
        example = max(1, min(128, total - 1))
        raise _wrong("data.sequence", length - 1, f"must be less than {total:,}", example)
    keys = ("train.val_windows", "train.test_windows", "probe.windows")
    if many := [key for key in keys if attrgetter(key)(config) * length > total]:
        why = f"windows of data.sequence={length - 1} share no symbol and the split has {total:,}"
        fitting = " ".join([str(total // length), *(assignment(key, total // length) for key in many[1:])])
        raise _wrong(many[0], attrgetter(many[0])(config), why, fitting)
    tokens = config.probe.windows * config.data.sequence
    if config.probe.token_maps > tokens:
        why = f"the probe has {tokens} tokens, of probe.windows={config.probe.windows}"
        raise _wrong("probe.token_maps", config.probe.token_maps, why, tokens)


def _check_place(config: Config) -> None:
    if config.study in RESERVED:
        raise _wrong("study", config.study, f"{', '.join(RESERVED)} are not studies", "scratch")
    if not is_recorded(results_root(config.runtime.results)):
        return
    if config.study == Config().study:
        why = "what is recorded there belongs to a study in conf/study; choose one with study=, or another folder"
        raise _wrong("runtime.results", config.runtime.results, why, LOCAL)
    if config.data.name == "synthetic":
        why = f"recorded results are made from enwik8, not from data={config.data.name}"
        raise _wrong("runtime.results", config.runtime.results, why, LOCAL)


def _check_tracker(track: str | None) -> None:
    found = find_spec(TRACKERS[track]) if track else None
    if track and (found is None or found.origin is None):  # the latter of a mere folder called so
        why = f"the package {TRACKERS[track]} is not installed: pip install -e '.[tracking]', or leave it out"
        raise _wrong("runtime.track", track, why, None)
