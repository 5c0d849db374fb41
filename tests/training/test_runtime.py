"""How a run is executed: what the fingerprint calls its device, its cores, whether its connections are compiled."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters

from mhc_repro.config import RuntimeConfig
from mhc_repro.cores import cores
from mhc_repro.errors import UserError
from mhc_repro.training import runtime

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
WORKS, FAILS = shutil.which("true"), shutil.which("false")  # in a compiler's place


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that there is a GPU, and a compiler; gpu(capability=(6, 1)) an older one."""

    def make(capability=(8, 0), triton=True, compiler=WORKS):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Maker A1")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(runtime, "find_spec", lambda name: triton or None)
        monkeypatch.setattr(shutil, "which", lambda name: compiler)

    return make


def test_a_fingerprint_names_a_gpu_by_its_model(gpu, monkeypatch):
    gpu()
    for device, name in ((GPU, "Maker A1"), (CPU, "cpu")):
        monkeypatch.setattr(runtime, "device_of", lambda config, device=device: device)
        assert runtime.set_up(RuntimeConfig(threads=1, compile="off"), {})[1]["device"] == name


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        ({}, ""),
        ({"capability": (6, 1)}, "compute capability 7.0"),
        ({"triton": False}, "triton"),
        ({"compiler": None}, "C compiler"),
        ({"compiler": FAILS}, "Python's headers"),
    ],
)
def test_a_gpu_that_cannot_compile_goes_without_unless_told_to(gpu, has, missing):
    gpu(**has)
    assert missing in runtime.missing_to_compile(GPU)
    assert runtime.compiles(RuntimeConfig(compile="auto"), GPU) == (not missing)
    assert not runtime.compiles(RuntimeConfig(compile="off"), GPU)
    if missing:
        with pytest.raises(UserError, match=f"{missing}.*runtime.compile=auto"):
            runtime.compiles(RuntimeConfig(compile="on"), GPU)


def test_mps_compiles_only_where_asked():
    asked = {
        choice: runtime.compiles(RuntimeConfig(compile=choice), torch.device("mps"))
        for choice in ("auto", "on", "off")
    }
    assert asked == {"auto": False, "on": True, "off": False}


def test_a_cpu_compiles_where_a_compiler_finds_the_headers(gpu):
    for compiler, able in ((WORKS, True), (FAILS, False), (None, False)):
        gpu(compiler=compiler)
        assert runtime.compiles(RuntimeConfig(), CPU) == able
    with pytest.raises(UserError, match=r"runtime.compile=on needs a C\+\+20 compiler"):
        runtime.compiles(RuntimeConfig(compile="on"), CPU)


SETTINGS = """
from mhc_repro.config import RuntimeConfig
from mhc_repro.training import runtime
runtime.set_up(RuntimeConfig(threads=1), {})
import torch._functorch.config, torch._inductor.config
print(torch._inductor.config.cpp.vec_isa_ok)
print(torch._functorch.config.autograd_cache_allow_custom_autograd_functions)
"""
WITHOUT_SETTINGS = {name: value for name, value in os.environ.items() if "TORCHINDUCTOR" not in name}


def test_set_up_reaches_the_compiler_before_its_settings_are_read():
    found = subprocess.run(
        [sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=True, env=WITHOUT_SETTINGS
    )
    assert found.stdout.split() == ["True", "True"]


@pytest.mark.skipif(bool(runtime.missing_to_compile(CPU)), reason="there is no C++20 compiler")
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
def test_cores_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7, 8})
    assert cores() == runtime.default_threads() == 4
    monkeypatch.setenv(runtime.CONCURRENT, "2")
    assert runtime.default_threads() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64
