"""What watching costs: a step that a GainMonitor looks at beside a plain one, and a training at its own cadence.

Two copies of a model are trained in turn, step by step, one of them watched, in processor time: medians of pairs
are what a machine that does other things as well leaves alone. At a step that it does not look at, a monitor works
when it is told of it, and is timed there: in a difference of whole steps that would be lost.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mhc_repro.bench.measure import spread, to_stderr
from mhc_repro.config import RuntimeConfig
from mhc_repro.errors import UserError
from mhc_repro.library.monitor import EVERY, GainMonitor
from mhc_repro.library.wrapping import expand_and_reduce, hyper_connection
from mhc_repro.training import runtime

DIM, LAYERS, BATCH, VOCABULARY = 128, 8, (4, 128), 32  # of more, a look costs a smaller share
LOOK = 2  # a look every so many steps here, so that there are enough
PACKAGES = ("hyper-connections", "transformers")

_now = time.process_time
Pairs = Sequence[tuple[float, float]]  # seconds of a plain step and of a watched one beside it


def measure(rounds: int, threads: int | None) -> dict[str, Any]:
    """Measure on a model of each kind, of so many looks; return the record of it."""
    config = RuntimeConfig(device="cpu", compile="off", threads=threads)  # a GPU's work is no processor time
    _, fingerprint = runtime.set_up(config, {})
    try:
        models, versions = _models(), {name: version(name) for name in PACKAGES}
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: pip install -e '.[models]'") from None
    monitored = {}
    for number, make in enumerate(models, start=1):
        torch.manual_seed(0)
        model = make()
        with tempfile.TemporaryDirectory(prefix="mhc-bench-") as folder:
            arm, looked, others = _train(model, rounds, folder)
        monitored[arm] = costs(looked, others)
        to_stderr(f"{arm}: {monitored[arm]['cost_percent']:.1f} % ({number} of {len(models)})")
    setting = {"layers": LAYERS, "dim": DIM, "batch": BATCH[0], "sequence": BATCH[1], "every": EVERY}
    made = {"fingerprint": fingerprint, "setting": setting, "versions": versions, "rounds": rounds}
    return made | {"monitored": monitored}


def costs(looked: Pairs, others: Sequence[float]) -> dict[str, float]:
    """Compare steps that are looked at, and add what the others take: look_ratio, and cost_percent at EVERY."""
    plain = statistics.median(base for base, _ in looked)
    seldom, often = statistics.median(mine - base for base, mine in looked), statistics.median(others)
    cost = (seldom + (EVERY - 1) * often) / (EVERY * plain)
    return spread([mine / base for base, mine in looked], "look_ratio") | {"cost_percent": 100 * cost}


def _train(model: nn.Module, looks: int, folder: str) -> tuple[str, Pairs, Sequence[float]]:
    """Train a model and a watched copy of it; return its arm, pairs with a look, and seconds of other steps."""
    pair = model, copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(each.parameters(), 1e-3) for each in pair]
    monitor = GainMonitor(pair[1], LOOK, Path(folder) / "mine")
    others = []

    def step(which: int, tokens: torch.Tensor) -> float:
        started = _now()
        output = pair[which](tokens)
        loss = getattr(output, "logits", output).square().mean()
        optimizers[which].zero_grad()
        loss.backward()
        optimizers[which].step()
        told = _now()
        if which:
            monitor.step(loss)
        ended = _now()
        if which and monitor.done % LOOK == 0:  # the maps of an even step are seen in the next one
            others.append(ended - told)
        return ended - started

    taken = []
    for count in range(1 + LOOK * looks):
        tokens = torch.randint(VOCABULARY, BATCH)
        first = count // LOOK % 2
        times = {which: step(which, tokens) for which in (first, 1 - first)}
        taken.append((times[0], times[1]))
    monitor.close()
    return monitor.found[0].arm, taken[LOOK::LOOK], others  # the first look opens the run's folder


def _models() -> list[Callable[[], nn.Module]]:
    import hyper_connections as package
    import transformers

    def work() -> nn.Module:
        layers = nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM)
        return nn.Sequential(nn.LayerNorm(DIM), *layers)

    def stack(expand: nn.Module, layers: Sequence[nn.Module], reduce: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Embedding(VOCABULARY, DIM), expand, *layers, reduce)

    def ours() -> nn.Module:
        expand, reduce = expand_and_reduce("mhc", dim=DIM)
        layers = [hyper_connection(work(), "mhc", dim=DIM, layer=index) for index in range(LAYERS)]
        return stack(expand, layers, reduce)

    def lucidrains(prefix: str) -> nn.Module:
        make = getattr(package, f"{prefix}get_init_and_expand_reduce_stream_functions")
        init, expand, reduce = make(4, dim=DIM)
        return stack(expand, [init(branch=work(), layer_index=index) for index in range(LAYERS)], reduce)

    def deepseek_v4() -> nn.Module:
        make: Any = transformers.DeepseekV4Config  # whose fields its types do not name
        config = make(
            vocab_size=VOCABULARY, hidden_size=DIM, num_hidden_layers=LAYERS // 2, num_attention_heads=4,
            head_dim=DIM // 4, num_key_value_heads=1, qk_rope_head_dim=16, q_lora_rank=64, o_lora_rank=64,
            o_groups=2, index_n_heads=2, index_head_dim=16, index_topk=4, moe_intermediate_size=2 * DIM,
            n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, num_hash_layers=0, sliding_window=32,
            max_position_embeddings=BATCH[1], hc_mult=4, layer_types=["sliding_attention"] * (LAYERS // 2),
            mlp_layer_types=["moe"] * (LAYERS // 2),
        )  # fmt: skip
        model: nn.Module = transformers.DeepseekV4ForCausalLM(config)
        return model

    return [ours, lambda: lucidrains(""), lambda: lucidrains("mc_"), deepseek_v4]
