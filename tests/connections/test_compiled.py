"""Compiled, a connection computes what it computes uncompiled, forward and backward."""

import shutil

import pytest
import torch

from one_connection import awake, branch, streams

# Few Sinkhorn iterations: unrolled code takes a compiler long, and what is compared does not depend on how many.
QUICK_TO_COMPILE = {"hc": {}, "mhc": {"mixing": {"kind": "sinkhorn", "iterations": 3}}, "identity": {}}


TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


# Compiling takes half a minute in a fresh environment, so all cases but one are slow.
COMPILED_CASES = [
    pytest.param(arm, dtype, marks=[] if (arm, dtype) == ("mhc", "float64") else [pytest.mark.slow])
    for arm in QUICK_TO_COMPILE
    for dtype in TOLERANCE
]


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "dtype"), COMPILED_CASES)
def test_compiled_and_uncompiled_agree_forward_and_backward(connection, name, dtype):
    module = awake(connection(name, **QUICK_TO_COMPILE[name]), dim=16).to(getattr(torch, dtype)).train()
    results = []
    for compiled in (False, True):
        module.compiled = compiled
        module.zero_grad()
        x = streams(4, tokens=8, dim=16).to(getattr(torch, dtype)).requires_grad_()
        out, (_, _, h_res), _ = module(x, branch)
        (out.sin().sum() + h_res.square().sum()).backward()
        results.append({"out": out, "h_res": h_res, "streams": x.grad})
        results[-1] |= {name: parameter.grad for name, parameter in module.named_parameters()}
    plain, compiled = results
    for key in plain:
        assert (compiled[key] - plain[key]).norm() <= TOLERANCE[dtype] * plain[key].norm(), key
