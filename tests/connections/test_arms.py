"""What must hold of the H_res of every arm in conf/connection: constraint, start, gains, gradients, size."""

from dataclasses import asdict

import pytest
import torch

from arms_table import A6, A6_DISTANCE, ARMS, ONE, RESIDUAL, UNIFORM, WHOLE, sums_to_one
from drawn_numbers import drawn
from mhc_repro.arm_files import abouts, settings
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import build
from mhc_repro.connections.hyper import make_form
from mhc_repro.connections.mixing import MIXINGS, make_mixing
from mhc_repro.connections.mixing.plain import Free
from mhc_repro.connections.symmetry import exchangeable
from mhc_repro.measurement.gains import gain_rows
from yaml_files import ARM_NAMES, load

SIZES = [1, 2, 4, 8]


@pytest.fixture(params=ARMS)
def each(request: pytest.FixtureRequest) -> str:
    """Run a test once for each arm with streams."""
    return request.param


def mixing_of(connection, arm, n=4):
    return make_mixing(connection(arm).mixing, n)


def can_have(arm: str, n: int) -> bool:
    """Say whether a family is not too large at n streams, or made for another number: refused, below."""
    few = settings(arm)["mixing"]["kind"] in ("permutations", "mean_permutations") and n > 4
    return not few and (arm != "ohc" or n == 4)


def test_every_arm_is_in_the_table():
    assert {*ARM_NAMES} == {*WHOLE, *RESIDUAL}
    assert {settings(arm)["mixing"]["kind"] for arm in ARMS} == set(MIXINGS)


def test_an_arm_whose_streams_nothing_tells_apart_is_known_by_its_start(connection, each):
    config = connection(each)
    assert exchangeable(config, make_form(config)) == ARMS[each].alike


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"freeze": ["read", "write"]}, True),  # Table 1 of the mHC paper, first row
        ({"freeze": ["read", "write"], "expand": "lss"}, False),
        ({"freeze": ["read"]}, True),  # HC writes 1 to all
        ({"freeze": ["write"]}, False),  # a home stream is read
        ({"freeze": ["read"], "mixing": {"kind": "free", "start": [0.5, 0.5]}}, True),
        ({"freeze": ["read"], "mixing": {"kind": "transport"}}, True),  # blind to equal gradients
        ({"freeze": ["read"], "mixing": {"kind": "random"}}, True),
        ({"freeze": ["read"], "mixing": {"kind": "orthogonal"}}, True),
        ({"freeze": ["read"], "mixing": {"kind": "orthostochastic"}}, True),
    ],
)
def test_settings_that_tell_streams_apart(connection, changes, expected):
    config = connection("hc", **changes, coefficients="flat")
    assert exchangeable(config, make_form(config)) == expected


def test_one_stream_is_like_no_other(connection):
    config = connection("hc", n=1, read_start=[1, 1], write_start=[1, 1])
    assert not exchangeable(config, make_form(config))


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_or_columns_that_differ_tell_streams_apart(connection, axis):
    """No arm starts with one of the two alone even; a family to come may."""
    config = connection("hc", read_start=[1, 1], write_start=[1, 1])

    class Uneven(Free):
        def matrix(self, numbers):
            given = torch.arange(1.0, 5.0)[:, None].expand(4, 4)
            return (given if axis else given.T)[..., None]

    form = make_form(config)
    assert exchangeable(config, form)
    assert not exchangeable(config, form._replace(mixing=Uneven(4)))


def test_what_a_file_says_of_its_constraint_and_start_is_true(connection, each):
    about = abouts()[each]
    if about.constraint == "doubly stochastic":
        assert about.exact == all(sums_to_one(each))
        assert mixing_of(connection, each).doubly_stochastic
    elif about.constraint == "none":
        assert about.bound == (None, None)
    starts = {"I": ONE, "J/n": UNIFORM, "A.6": A6, "A.6 at n = 4": A6}
    assert about.start not in starts or ARMS[each].row == pytest.approx(starts[about.start])


@pytest.mark.parametrize("arm_name", ARM_NAMES)
def test_a_file_is_named_as_its_arm_and_says_only_where_it_differs(arm_name):
    said = load("connection", arm_name)
    assert said["name"] == arm_name
    defaults = asdict(ConnectionConfig())
    same = {key for key, value in said.items() if key in defaults and value == defaults[key]}
    assert same <= {"name", "mixing"}  # the two that say which arm it is


def test_the_start_is_the_documented_one(connection, each):
    mixing, expected = mixing_of(connection, each), ARMS[each]
    start = mixing.matrix(mixing.initial()[:, None])[..., 0]
    if expected.row is not None:
        tolerance = {"orthostochastic_tokenbender": 1e-4, "deepseek_v4": 5e-6}.get(each, 2e-7)
        assert start[0].tolist() == pytest.approx(expected.row, abs=tolerance)
    if expected.distance is not None:
        # The numbers of a start pass through float32, as parameters do, so that is how exact a distance can be.
        assert (start - torch.eye(4)).norm().item() == pytest.approx(expected.distance, rel=1e-6, abs=1e-12)


# Numbers of a free H_res are given for n = 4; the only such rotation of two is I.
@pytest.mark.parametrize(
    ("arm_name", "n"),
    [
        (arm, n)
        for arm in ARMS
        for n in (2, 4, 8)
        if ARMS[arm].distance == A6_DISTANCE and settings(arm)["mixing"]["kind"] != "free"
        if can_have(arm, n) and (arm, n) != ("orthogonal", 2)
    ],
)
def test_with_other_numbers_of_streams_a_start_is_as_near_to_i_as_app_a6_is(connection, arm_name, n):
    distances = []
    for name in (arm_name, "mhc"):
        mixing = mixing_of(connection, name, n)
        distances.append((mixing.matrix(mixing.initial()[:, None])[..., 0] - torch.eye(n)).norm().item())
    assert distances[0] == pytest.approx(distances[1], rel=1e-6)


@pytest.mark.parametrize(("each", "n"), [(arm, n) for arm in ARMS for n in SIZES if can_have(arm, n)])
def test_the_constraint_is_met_in_float32_whatever_the_numbers(connection, each, n):
    mixing = mixing_of(connection, each, n)
    rows, columns = sums_to_one(each)
    for scale in (0.1, 1.0, 3.0):
        h = mixing.matrix(scale * drawn(mixing.size, 200, dtype=torch.float32))
        assert h.shape == (n, n, 200)
        assert h.dtype == torch.float32
        assert h.isfinite().all()
        for axis in (*[1] * rows, *[0] * columns):
            # entries may have no bound, so a sum is as near to 1 as float32 can hold it
            assert ((h.sum(axis) - 1).abs() / h.abs().sum(axis).clamp_min(1)).max() <= ARMS[each].sums
        if (mixing.doubly_stochastic and each != "s2hc") or "stochastic" in each:
            assert h.min() > -1e-6
        if each == "xhc_clamp":
            assert max(h.sum(0).max(), h.sum(1).max()) < 1 + 1e-6
        if each == "mhc_spectral":
            assert (torch.linalg.matrix_norm(h.permute(2, 0, 1), 2) - 1).abs().max() < 2e-6
        if each in ("orthogonal", "ohc"):
            first = h.permute(2, 0, 1)
            assert (first @ first.mT - torch.eye(n)).abs().max() < 3e-6


def test_composite_gains_over_64_sub_layers_stay_within_their_bounds(connection, each):
    mixing, expected = mixing_of(connection, each), ARMS[each]
    numbers = (expected.near or 1.0) * drawn(64, mixing.size, 16, dtype=torch.float32)
    if expected.near:
        numbers = numbers + mixing.initial()[:, None].float()
    made = (mixing.at(layer).matrix(each_layer) for layer, each_layer in enumerate(numbers))
    h_res = torch.stack([h.permute(2, 0, 1) for h in made])
    rows = gain_rows(h_res)
    forward, backward = (max(row[f"composite_{way}"] for row in rows) for way in ("forward", "backward"))
    bound = abouts()[each].bound
    for gain, most in zip((forward, backward), bound, strict=True):
        assert most is None or gain <= most + 1e-4
    if all(sums_to_one(each)):
        assert (forward, backward) == pytest.approx((1, 1), abs=1e-4)
    # nothing bounds these
    if each in ("hc", "jpmhc", "mhc_signed_rows") or each.startswith("orthostochastic_"):
        assert max(forward, backward) > 1.01


@pytest.mark.parametrize(("name", "kept"), [("oshc", "rows"), ("cmhc", "both")])
def test_what_changes_along_the_depth_does_so_where_it_says(connection, name, kept):
    first = settings(name)["mixing"]["first"]
    mixing = mixing_of(connection, name)
    numbers = drawn(mixing.size, 50)
    early, late = (mixing.at(layer).matrix(numbers) for layer in (first - 1, first))
    assert mixing.at(0) == mixing.at(first - 1) != mixing.at(first) == mixing.at(99)
    if kept == "rows":
        torch.testing.assert_close(early.sum(1), torch.ones(4, 50, dtype=torch.float64))
        torch.testing.assert_close(late.sum(0), torch.ones(4, 50, dtype=torch.float64))
        assert (early.sum(0) - 1).abs().max() > 0.1 < (late.sum(1) - 1).abs().max()
    else:
        torch.testing.assert_close(early, 0.8 * late + 0.05)
        torch.testing.assert_close(late, mixing_of(connection, "mhc_lite").matrix(numbers))


def test_at_app_a6_the_implicit_gradient_is_another(connection):
    weights, gradients = drawn(16, 50, seed=2), []
    for name in ("mhc", "mhc_implicit"):
        mixing = mixing_of(connection, name)
        numbers = mixing.initial()[:, None].repeat(1, 50).requires_grad_()
        (mixing.matrix(numbers).flatten(0, 1) * weights).sum().backward()
        gradients.append(numbers.grad)
    assert ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item() == pytest.approx(0.6, abs=0.1)


def learned(each: str) -> str:
    """Say which function makes H_res, wherever it starts; nothing where there are no numbers."""
    given = settings(each)["mixing"]
    mixing = make_mixing({key: value for key, value in given.items() if key not in ("start", "seed")}, 4)
    return repr(mixing) if mixing.size else ""


@pytest.mark.parametrize("each", {of: each for each in ARMS if (of := learned(each))}.values())
def test_float64_gradients_are_those_of_finite_differences(connection, each):
    mixing = mixing_of(connection, each)
    # The implicit gradient is exact where the iterations have converged; a low temperature is logits far apart.
    given = settings(each)["mixing"]
    scale = 0.05 if given.get("gradient") == "implicit" or given.get("temperature", 1) < 1 else 0.7
    numbers = (scale * drawn(mixing.size, 2, seed=4)).requires_grad_()
    assert torch.autograd.gradcheck(mixing.matrix, (numbers,), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_parameters_are_the_papers_count(connection, each):
    named = dict(build(connection(each), 1, 64).named_parameters())
    phi = sum(p.numel() for name, p in named.items() if name.endswith("phi"))
    assert phi == ARMS[each].phi * 64
    assert sum(p.numel() for p in named.values()) - phi == ARMS[each].static
