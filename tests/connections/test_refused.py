"""Settings of a connection that do not fit one another, or that its family cannot have, are one line."""

import pytest
import torch

from mhc_repro.arm_files import settings
from mhc_repro.errors import UserError
from mhc_repro.validation import validate
from tiny_steps import tokens
from yaml_files import ARM_NAMES

MOST_FOUR = ("mhc_lite", 5), ("mhc_lite", 8), ("cmhc", 8), ("kromhc", 6), *(("ohc", n) for n in (1, 2, 3, 8))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        *((name, {"n": n}, rf"connection\.n={n}.*connection\.n=4") for name, n in MOST_FOUR),
        ("mhc_lite", {"coefficients": "stream"}, r"use connection\.coefficients=flat"),
        ("mhc", {"freeze": ["read", "write", "mix"]}, "leaves nothing to learn"),
        (
            "uniform",
            {"freeze": ["read", "write"]},
            r"freeze=\[read,write\]: with .*kind=uniform that leaves nothing",
        ),
        ("mhc_exponent", {"model": {"norm": "post"}}, r"model\.norm=post.*connection\.exponent"),
        ("baseline", {"exponent": True}, r"connection\.exponent=true.*kind residual"),
        ("single_pass", {"reduce": "head"}, r"connection\.reduce=head.*for example connection\.reduce=sum"),
        ("baseline", {"single_pass": True}, r"connection\.single_pass=true.*kind residual"),
        ("mhc", {"branch_scale": 0.5}, r"connection\.branch_scale=0\.5.*kind streams.*branch_scale=1\.0"),
        ("mhc_annealed", {"write_end": 0.0}, r"connection\.write_end=0.*more than 0"),
        ("attention_residuals", {"n": 4}, r"connection\.n=4.*for example connection\.n=1"),
        ("muddformer", {"reduce": "head"}, r"connection\.reduce=head.*for example connection\.reduce=sum"),
        ("muddformer", {"model": {"norm": "post"}}, r"model\.norm=post"),
        ("muddformer", {"mixing": {"kind": "sinkhorn"}}, "kind=sinkhorn: choose one of attention, dense"),
        ("history", {"mixing": {"kind": "softmax", "temperature": 0.0}}, r"connection\.mixing\.temperature"),
        ("history", {"mixing": {"kind": "softmax", "clamp": 1.5}}, r"connection\.mixing\.clamp"),
    ],
)
def test_what_does_not_fit_is_one_line(config, name, changes, said):
    with pytest.raises(UserError, match=said) as error:
        validate(config(name, **changes))
    assert "\n" not in str(error.value)


OTHERS = {
    **{
        "eps": 1e-2,
        "alpha": 0.5,
        "share_alpha": True,
        "write_end": 1.5,
        "single_pass": True,
        "expand": "lss",
    },
    **{"read_start": [0.3, -0.2], "write_start": [0.4, -0.3], "reduce": "head"},
}
# One arm of each form: by how H_res is made they do not differ here.
OF_A_FORM = (
    "kind",
    "n",
    "coefficients",
    "gate",
    "share_alpha",
    "freeze",
    "single_pass",
    "exponent",
    "reduce",
)
FORMS = {repr([settings(name).get(key) for key in OF_A_FORM]): name for name in reversed(ARM_NAMES)}


@torch.no_grad()
@pytest.mark.parametrize("name", sorted(FORMS.values()))
def test_what_makes_another_id_makes_another_net_or_is_refused(config, tiny, name):
    def logits(**changes):
        net = tiny(name, awake=0.3, **changes)
        net.at(1.0)
        return net(tokens()[0])

    def allowed(key):
        try:
            validate(config(name, **{key: OTHERS[key]}))
        except UserError:
            return False
        return OTHERS[key] != settings(name).get(key)

    before = logits()
    same = [
        key
        for key in filter(allowed, OTHERS)
        if torch.allclose(before, logits(**{key: OTHERS[key]}), rtol=1e-9)
    ]
    # a file may give the start of what is frozen by a setting more
    assert not {*same} - {f"{part}_start" for part in settings(name).get("freeze", [])}
