"""An arm taken out of the suite computes what it computes in it, around any branch and in any shape."""

import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mhc_repro import arm_names, connection_config, expand_and_reduce, hyper_connection
from mhc_repro.arm_files import FOLDERS
from mhc_repro.errors import UserError
from own_models import stirred

ROOT = Path(__file__).parents[2]
X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


GROWING = [name for name in arm_names() if connection_config(name).kind == "outputs"]
OTHERS = [name for name in arm_names() if name not in GROWING]


@pytest.mark.parametrize("name", OTHERS)
def test_a_stack_of_wrapped_branches_is_the_suites_model(tiny, name):
    model = tiny(name, awake=0.3)
    expand, reduce = expand_and_reduce(name, dim=8)
    expand.make = model.expansion
    reduce.join = model.reduction
    tokens = torch.arange(12).view(2, 6) % 17
    with torch.no_grad():
        state = expand(model.embed(tokens))
        for layer, branch in enumerate(model.branches):
            wrapped = hyper_connection(branch, name, dim=8, layer=layer)
            wrapped.connection.double().load_state_dict(model.connections[layer].state_dict())
            state = wrapped(state)
        ours = model.norm(reduce(state)) @ model.embedding.weight.T
        assert torch.equal(ours, model(tokens))


@pytest.mark.parametrize("name", ["hc", "mhc", "history"])
def test_leading_axes_are_the_callers(name):
    wrapped = hyper_connection(nn.Linear(8, 8), name, dim=8, layer=2).double()
    stirred(wrapped.connection)
    expand, reduce = expand_and_reduce(name, dim=8)
    flat = reduce(wrapped(expand(X.reshape(-1, 8))))
    deep = reduce(wrapped(expand(X.view(2, 1, 5, 8))))
    assert torch.allclose(deep.reshape(-1, 8), flat, rtol=1e-12)


def test_further_arguments_and_results_of_the_branch_pass_through():
    class Attention(nn.Module):
        def forward(self, x, mask, scale=1.0):
            return scale * x * mask, "weights"

    wrapped = hyper_connection(Attention(), "hc", dim=8, layer=0).double()
    expand, _ = expand_and_reduce("hc", dim=8)
    streams, weights = wrapped(expand(X), torch.tensor(0.5), scale=2.0)
    assert weights == "weights"
    assert torch.allclose(streams, 2 * expand(X))


FEW = {"mixing": {"iterations": 3}}  # unrolled code takes long to trace


@pytest.mark.parametrize(
    ("name", "changes"), [("hc", {}), ("mhc", FEW), ("mhc_exponent", {}), ("history", {})]
)
def test_compiles_as_one_graph(name, changes):
    torch._dynamo.reset()
    wrapped = hyper_connection(nn.Linear(8, 8), name, dim=8, layer=3, **changes)
    stirred(wrapped.connection)
    expand, reduce = expand_and_reduce(name, dim=8)
    x = X.float()

    def step(x):
        return reduce(wrapped(expand(x)))

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), step(x), rtol=1e-6, atol=1e-6)
    gradients = []
    for each in (compiled, step):
        wrapped.zero_grad()
        each(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in wrapped.parameters()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", GROWING)
def test_an_arm_whose_state_grows_is_refused(name):
    for make in (partial(hyper_connection, nn.Linear(8, 8), layer=0), expand_and_reduce):
        with pytest.raises(UserError, match=f"={name}: it keeps the output of every sub-layer.*such as mhc"):
            make(name, dim=8)


def test_settings_change_the_arm():
    wrapped = hyper_connection(nn.Identity(), "mhc", dim=8, layer=0, n=2, mixing={"iterations": 3})
    assert wrapped.n == 2
    assert wrapped.connection.form.mixing.iterations == 3
    assert wrapped.connection.form.mixing.start == (-3, 3)
    assert connection_config("mhc", mixing={"kind": "identity"}).mixing == {"kind": "identity"}
    again = hyper_connection(nn.Identity(), connection_config("mhc", n=2), dim=8, layer=0)
    assert (
        again.connection.form == hyper_connection(nn.Identity(), "mhc", dim=8, layer=0, n=2).connection.form
    )


def test_settings_that_are_given_stay_the_callers():
    given = connection_config("mhc")
    made = connection_config(given, n=2)
    made.mixing["iterations"], made.read_start[0] = 1, 9.0
    assert (given.mixing["iterations"], given.read_start[0], given.n) == (20, -3, 4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: connection_config("mch"), "arm=mch: no such arm; did you mean mhc"),
        (lambda: connection_config("mhc", streams=2), "streams=2: no setting of a connection"),
        (lambda: connection_config("mhc_lite", n=5), "n may be 1 to 4"),
        (lambda: connection_config("kromhc", n=3), "n must be a power of two"),
        (lambda: connection_config("baseline", n=2), "a plain residual connection has one stream"),
        (lambda: connection_config("mhc", n=1.5), "connection.n: expected int, got float"),
        (lambda: connection_config("mhc", mixing="sinkhorn"), "connection.mixing: expected object, got str"),
        (
            lambda: hyper_connection(lambda x: None, dim=8, layer=0)(torch.zeros(2, 4, 8)),
            "the branch made NoneType",
        ),
        (
            lambda: hyper_connection(lambda x: (), dim=8, layer=0)(torch.zeros(2, 4, 8)),
            "the branch made tuple",
        ),
        (
            lambda: expand_and_reduce("single_pass", dim=8)[1](torch.zeros(2, 4, 8)),
            "the last sub-layer hands on a read",
        ),
        (lambda: hyper_connection(nn.Identity(), dim=0, layer=0), "dim=0: must be a whole number, 1 or more"),
        (lambda: hyper_connection(nn.Identity(), dim=8, layer=-1), "layer=-1"),
        (
            lambda: hyper_connection(nn.Identity(), dim=7, layer=0)(torch.zeros(2, 4, 8)),
            r"carries \(..., 4, 7\)",
        ),
        (
            lambda: hyper_connection(nn.Linear(8, 7), dim=8, layer=0)(torch.zeros(2, 4, 8)),
            "returns what it is given",
        ),
        (lambda: expand_and_reduce(dim=8)[0](torch.zeros(2, 7)), "made for dim=8"),
        (
            lambda: hyper_connection(nn.Identity(), dim=8, layer=0)((torch.zeros(2, 4, 8), None)),
            "streams are tuple.*hand on the first",
        ),
        (lambda: expand_and_reduce(dim=8)[1]((torch.zeros(2, 4, 8), torch.ones(2))), "streams are tuple"),
    ],
)
def test_a_mistake_is_one_line_that_teaches(make, said):
    with pytest.raises(UserError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", OTHERS)
def test_an_arm_is_made_without_numbers_and_filled_later(name):
    original = hyper_connection(nn.Identity(), name, dim=8, layer=0)
    with torch.device("meta"):
        module = hyper_connection(nn.Identity(), name, dim=8, layer=0)
    assert all(each.is_meta for each in module.parameters())
    module.load_state_dict(original.state_dict(), assign=True)
    x = X.flatten()[: 16 * original.n].view(2, original.n, 8)
    torch.testing.assert_close(module(x), original(x), equal_nan=False)


def test_annealed_writes_are_those_of_the_progress_that_is_told():
    module, written = hyper_connection(nn.Identity(), "mhc_annealed", dim=8, layer=0), []
    for progress in (0.0, 0.5, 1.0):
        module.at(progress)
        written.append(module.connection(X.flatten()[:64].view(1, 2, 4, 8), torch.sin).maps.write)
    for made, factor in zip(written, (1, 0.75, 0.5), strict=True):
        torch.testing.assert_close(made, factor * written[0])


def test_a_batch_without_tokens_passes():
    streams = torch.zeros(0, 3, 4, 8)
    assert hyper_connection(nn.Linear(8, 8), "mhc", dim=8, layer=0)(streams).shape == streams.shape


@pytest.mark.parametrize(
    ("call", "unneeded"),
    [
        ("mhc_repro.arm_names(), mhc_repro.UserError", "torch hydra"),
        (
            "mhc_repro.hyper_connection(abs, 'hc', dim=8, layer=0), mhc_repro.inject, "
            "__import__('mhc_repro.measurement.probe')",
            "pandas pyarrow hydra",
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(call, unneeded):
    code = f"import sys, mhc_repro; {call}; sys.exit(bool({set(unneeded.split())} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_wheel_holds_the_arms_where_they_are_looked_for():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside, beside = (each.relative_to(ROOT).as_posix() for each in FOLDERS)
    assert built["force-include"] == {beside: inside}
