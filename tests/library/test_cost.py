"""A monitor at its default cadence takes less than 3 % of a training, in processor time, whatever it reads.

Two copies of a model are trained in turn, step by step, one of them watched. Medians of the pairs' differences are
what a machine that does other things as well leaves alone.
"""

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mhc_repro import GainMonitor, expand_and_reduce, hyper_connection
from mhc_repro.runs import read_run
from own_models import branch, seeded

DIM, LAYERS, BATCH = 128, 6, (4, 96)
DEFAULT, EVERY, LOOKS = 20, 5, 8


def ours() -> nn.Module:
    expand, reduce = expand_and_reduce("mhc", dim=DIM)
    layers = (hyper_connection(work(), "mhc", dim=DIM, layer=index) for index in range(LAYERS))
    return nn.Sequential(expand, *layers, reduce)


def lucidrains(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        package = pytest.importorskip("hyper_connections")
        init, expand, reduce = getattr(package, f"{name}get_init_and_expand_reduce_stream_functions")(
            4, dim=DIM
        )
        return nn.Sequential(expand, *(init(branch=work(), layer_index=i) for i in range(LAYERS)), reduce)

    return make


def deepseek_v4() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.DeepseekV4Config(
        vocab_size=32, hidden_size=DIM, num_hidden_layers=LAYERS // 2, num_attention_heads=4, head_dim=32,
        num_key_value_heads=1, qk_rope_head_dim=16, q_lora_rank=64, o_lora_rank=64, o_groups=2, index_n_heads=2,
        index_head_dim=16, index_topk=4, moe_intermediate_size=2 * DIM, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, num_hash_layers=0, sliding_window=32, max_position_embeddings=128, hc_mult=4,
        layer_types=["sliding_attention"] * (LAYERS // 2), mlp_layer_types=["moe"] * (LAYERS // 2),
    )  # fmt: skip
    return transformers.DeepseekV4ForCausalLM(config)


def work() -> nn.Module:
    return nn.Sequential(branch(DIM), nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM))


@pytest.mark.parametrize(
    "make", [ours, lucidrains(""), lucidrains("mc_"), deepseek_v4], ids=["ours", "hc", "mhc", "deepseek_v4"]
)
def test_less_than_three_per_cent(make: Callable[[], nn.Module], tmp_path) -> None:
    generator = torch.Generator().manual_seed(0)
    models = [seeded(make) for _ in range(2)]
    optimizers = [torch.optim.AdamW(model.parameters(), 1e-3) for model in models]
    monitor = GainMonitor(models[1], EVERY, tmp_path / "mine")

    def step(which: int, x: torch.Tensor) -> float:
        started = time.process_time()
        output = models[which](x)
        loss = getattr(output, "logits", output).square().mean()
        optimizers[which].zero_grad()
        loss.backward()
        optimizers[which].step()
        if which:
            monitor.step(loss)
        return time.process_time() - started

    taken = []
    for count in range(1 + EVERY * LOOKS):
        x = torch.randint(32, BATCH, generator=generator)
        x = x if make is deepseek_v4 else torch.randn(*BATCH, DIM, generator=generator)
        first = count % 2
        times = {which: step(which, x) for which in (first, 1 - first)}
        taken.append((times[0], times[1] - times[0]))
    monitor.close()
    plain, more = torch.tensor(taken[1:]).T  # the first one opens the run's folder
    looked = torch.arange(1, len(taken)) % EVERY == 0
    seldom, often = more[looked].median(), more[~looked].median()
    cost = (seldom + (DEFAULT - 1) * often) / (DEFAULT * plain.median())
    assert cost < 0.03
    assert len(read_run(monitor.path).gains) == (1 + LOOKS) * LAYERS
