"""What of a model with connections decays, and at which rate it learns."""

import pytest
import torch
from torch import nn

from injected_models import TOKENS, WIDTH, Block, decoder, vit
from mhc_repro import arm_names, inject, parameter_groups
from mhc_repro.errors import UserError
from mhc_repro.training.optim import decays


@pytest.mark.parametrize("name", arm_names())
def test_of_every_arm_groups_decay_what_the_suite_decays(tiny, name):
    model = tiny(name)
    suites = {id(p) for label, p in model.named_parameters() if decays(label, p)}
    decayed = {id(p) for group in parameter_groups(model) for p in group["params"] if group["weight_decay"]}
    assert decayed == suites


def test_groups_decay_what_the_suite_decays():
    model = decoder()
    inject(model, Block, "mhc", sample=TOKENS)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, lr=1e-3, connection_lr=10)
    assert sum(len(group["params"]) for group in groups) == len(names)
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            own = ".connection." in name
            assert group["lr"] == (1e-2 if own else 1e-3)
            matrix = parameter.dim() == 2 and not name.startswith("embedding")
            decay = 0.01 * name.endswith(".phi") if own else 0.1 * matrix
            assert group["weight_decay"] == pytest.approx(decay)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight_decay": -1}, "weight_decay=-1: must be 0 or more"),
        ({"weight_decay": "a"}, "weight_decay=a: must be 0 or more"),
        ({"lr": float("nan")}, "lr=nan: must be more than 0 and finite"),
        ({"lr": 1e-3, "connection_lr": 0}, "connection_lr=0: must be more than 0"),
        ({"lr": 1e-3, "connection_lr": float("nan")}, "connection_lr=nan: must be more than 0"),
        ({"connection_lr": 10}, "connection_lr=10: needs lr="),
    ],
)
def test_what_adamw_has_no_use_for_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        parameter_groups(decoder(), **given)


def test_embeddings_do_not_decay_whatever_holds_them():
    model = vit()
    model.pos_embed = nn.Parameter(torch.zeros(1, 4, WIDTH))  # as timm has it
    model.member_weight = nn.Parameter(torch.zeros(4, WIDTH))  # in which "emb" is no word
    model.token_mixing = nn.Parameter(torch.zeros(4, WIDTH))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {
        names[id(p)] for group in parameter_groups(model) for p in group["params"] if group["weight_decay"]
    }
    bare = {"vit.embeddings.cls_token", "vit.embeddings.position_embeddings", "pos_embed"}
    assert bare <= {*names.values()}
    assert not bare & decayed
    assert {"vit.embeddings.patch_embeddings.projection.weight", "member_weight", "token_mixing"} <= decayed
