"""Settings of a connection that do not fit one another, or that its family cannot have, are one line."""

import pytest

from mhc_repro.errors import UserError
from mhc_repro.validation import validate

MOST_FOUR = ("mhc_lite", 5), ("mhc_lite", 8), ("cmhc", 8), ("kromhc", 6), *(("ohc", n) for n in (1, 2, 3, 8))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        *((name, {"n": n}, rf"connection\.n={n}.*connection\.n=4") for name, n in MOST_FOUR),
        ("mhc_lite", {"coefficients": "stream"}, r"use connection\.coefficients=flat"),
        ("mhc", {"freeze": ["read", "write", "mix"]}, "leaves nothing to learn"),
        ("mhc_exponent", {"model": {"norm": "post"}}, r"model\.norm=post.*connection\.exponent"),
        ("baseline", {"exponent": True}, r"connection\.exponent=true.*kind residual"),
        ("single_pass", {"reduce": "head"}, r"connection\.reduce=head.*for example connection\.reduce=sum"),
        ("baseline", {"single_pass": True}, r"connection\.single_pass=true.*kind residual"),
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
