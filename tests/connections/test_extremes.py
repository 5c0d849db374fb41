"""At the ends of the number range compiled code makes the gradient that plain code makes, and a finite one.

A public port's compiled Sinkhorn backward overflowed where its forward was finite (unsloth-zoo #859).
"""

import pytest
import torch
from torch import Tensor

from mhc_repro.arm_files import arm_names, settings
from mhc_repro.connections.mixing import MIXINGS, Mixing, make_mixing
from mhc_repro.connections.mixing.scaled import IdentityMix, Sinkhorn

TOKENS = 8
UPSTREAM = 1e6
MOVED = ("start", "share", "temperature")  # what moves logits alone


def forms() -> list[Mixing]:
    """The parametrisations of all arms, each code once; with few iterations, which compile sooner."""
    made = {}
    for arm in arm_names():
        mixing = dict(settings(arm).get("mixing", {}))
        if mixing.get("kind") in MIXINGS:
            if "iterations" in mixing:
                mixing["iterations"] = 2
            if mixing["kind"] == "orthostochastic":
                mixing["steps"] = 3
            form = make_mixing({key: each for key, each in mixing.items() if key not in MOVED}, 4)
            made[repr(form)] = form
    return [form for form in made.values() if form.size]


FORMS = forms()


def numbers(form: Mixing) -> Tensor:
    generator = torch.Generator().manual_seed(form.size)
    signs = torch.randint(0, 3, (form.size, TOKENS), generator=generator) - 1
    drawn = torch.randn(form.size, TOKENS, generator=generator)
    return 1e4 * signs + drawn  # -1e4, about 0, 1e4


def test_plain_gradients_are_finite_for_every_arm():
    for form in FORMS:
        for each in gradients(lambda leaves, form=form: [form.matrix(leaves[0])], [numbers(form)]):
            assert each.isfinite().all(), form


def gradients(function, given: list[Tensor]) -> list[Tensor]:
    leaves = [each.clone().requires_grad_() for each in given]
    made = function(leaves)
    weights = (torch.randn(each.shape, generator=torch.Generator().manual_seed(0)) for each in made)
    sum((each * (UPSTREAM * weight)).sum() for each, weight in zip(made, weights, strict=True)).backward()
    return [*(each.detach() for each in made), *(leaf.grad for leaf in leaves)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_gradients_of_sinkhorn_are_finite_and_those_of_plain_code():
    forms = [form for form in FORMS if isinstance(form, Sinkhorn | IdentityMix)]

    def matrices(leaves: list[Tensor]) -> list[Tensor]:
        return [form.matrix(leaf) for form, leaf in zip(forms, leaves, strict=True)]

    given = [numbers(form) for form in forms]
    torch._dynamo.reset()
    plain = gradients(matrices, given)
    compiled = gradients(torch.compile(matrices, fullgraph=True, dynamic=False), given)
    for form, *pairs in zip(forms * 2, plain, compiled, strict=True):
        for each in pairs:
            assert each.isfinite().all(), form
        largest = pairs[0].abs().max().item()
        torch.testing.assert_close(*pairs, rtol=1e-3, atol=1e-4 * largest, msg=str(form))
