"""Both ways to multiply give the same product and the same gradients, as float64 does."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mhc_repro.linear import BOTH_LIBRARIES, TOKENS, Linear, convolves, linear

SHAPES = {  # of x, and what is made of it
    "body": ((2, TOKENS, 96), 160),
    "maps": ((4 * TOKENS, 128), 24),
    "windows shorter than an image": ((8, TOKENS // 4, 32), 8),
    "one image": ((TOKENS, 16), 1),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_gradients(product, x: Tensor, weight: Tensor) -> list[Tensor]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = product(x, weight)
    upstream = drawn(*y.shape, seed=2).to(y.dtype)
    return [y, *torch.autograd.grad(y, (x, weight), upstream)]


@pytest.mark.parametrize(
    ("name", "compiled"),
    [
        *((name, False) for name in SHAPES),
        ("maps", True),
        ("one image", True),
    ],  # tokens in a row are compiled
)
def test_product_and_gradients_are_those_of_float64(name, compiled):
    shape, outputs = SHAPES[name]
    x, weight = drawn(*shape), drawn(outputs, shape[-1], seed=1)
    assert convolves(x) == BOTH_LIBRARIES
    product = torch.compile(linear, dynamic=False, fullgraph=True) if compiled else linear
    found = with_gradients(product, x, weight)
    expected = with_gradients(functional.linear, x.double(), weight.double())
    for fast, exact in zip(found, expected, strict=True):
        assert fast.shape == exact.shape
        assert (fast - exact).norm() <= 1e-6 * exact.norm()


def test_a_view_is_multiplied_as_it_reads():
    """Streams are often views, whose rows do not follow each other in memory."""
    x, weight = drawn(96, 2, TOKENS).permute(1, 2, 0), drawn(40, 96, seed=1)
    torch.testing.assert_close(linear(x, weight), linear(x.contiguous(), weight), rtol=0, atol=0)
    torch.testing.assert_close(linear(x, weight.T.contiguous().T), linear(x, weight))


@pytest.mark.parametrize(
    "x",
    [
        drawn(TOKENS + 1, 8),
        drawn(TOKENS, 8).double(),
        drawn(TOKENS, 8).bfloat16(),
        drawn(TOKENS, 8).to("meta"),
    ],
    ids=["tokens left over", "float64", "bfloat16", "another device"],
)
def test_other_products_are_left_to_torch(x):
    assert not convolves(x)
    weight = drawn(3, 8, seed=1).to(x)
    if x.device.type == "cpu":
        assert torch.equal(linear(x, weight), functional.linear(x, weight))


def test_autocast_decides_the_dtype_of_a_product():
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(drawn(TOKENS, 8), drawn(3, 8)).dtype == torch.bfloat16


def test_module_is_a_linear_without_bias():
    """Its weight has the name and the shape of `nn.Linear`'s, so that checkpoints and counts stay as they are."""
    module, x = Linear(16, 24), drawn(TOKENS, 16)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {"weight": (24, 16)}
    torch.testing.assert_close(module(x), x @ module.weight.T)
