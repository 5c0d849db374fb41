"""How a run is executed: what the fingerprint calls its device, its cores, what its compiler reads."""

import os

import pytest
import torch
from torch._dynamo.utils import counters

from mhc_repro.config import RuntimeConfig
from mhc_repro.cores import cores
from mhc_repro.training import compiler, runtime

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_a_fingerprint_names_a_gpu_by_its_model(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Maker A1")
    for device, name in ((GPU, "Maker A1"), (CPU, "cpu")):
        monkeypatch.setattr(runtime, "device_of", lambda config, device=device: device)
        assert runtime.set_up(RuntimeConfig(threads=1, compile="off"), {})[1]["device"] == name


@pytest.mark.skipif(bool(compiler.missing_to_compile(CPU)), reason="there is no C++20 compiler")
def test_a_kept_graph_is_not_used_for_another_gradient(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def gradient(factor):
        class Scaled(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.exp()

            @staticmethod
            def backward(ctx, grad):
                return factor * grad

        torch._dynamo.reset()
        counters.clear()
        x = torch.zeros(8, requires_grad=True)
        torch.compile(lambda x: Scaled.apply(x), fullgraph=True)(x).sum().backward()
        return x.grad[0].item(), counters["aot_autograd"]["autograd_cache_hit"]

    with torch._functorch.config.patch(autograd_cache_allow_custom_autograd_functions=True):
        assert [gradient(factor) for factor in (2.0, 2.0, 3.0)] == [(2.0, 0), (2.0, 1), (3.0, 0)]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process is bound to cores here")
def test_cores_are_those_that_may_be_used(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7, 8})
    assert cores() == runtime.default_threads() == 4
    monkeypatch.setenv(runtime.CONCURRENT, "2")
    assert runtime.default_threads() == 2
    monkeypatch.setattr("mhc_repro.cores.QUOTA", tmp_path / "cpu.max")
    for limit, count in {"max 100000": 4, "250000 100000": 3, "9900000 100000": 4}.items():
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
        assert cores() == count
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64
