"""What must hold of every arm in conf/connection, in one table: constraint, start, gains, learning, cost."""

import math
from dataclasses import asdict, dataclass

import pytest
import torch
from torch import Tensor

from mhc_repro.arm_files import abouts, settings
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import build
from mhc_repro.connections.hyper import make_form
from mhc_repro.connections.mixing import MIXINGS, make_mixing
from mhc_repro.connections.symmetry import exchangeable
from mhc_repro.errors import UserError
from mhc_repro.measurement.gains import gain_rows
from tiny_steps import VOCAB, spread, tokens, train
from yaml_files import ARM_NAMES, load


def row(own: float, other: float) -> tuple[float, ...]:
    """Weights that are as `own` to three times `other`, of sum 1."""
    return tuple(each / (own + 3 * other) for each in (own, other, other, other))


A6 = row(1, math.exp(-6))
A6_DISTANCE = 4 * math.sqrt(3) * A6[1]
UNIFORM = row(1, 1)
ONE = row(1, 0)
SOFT = math.exp(-8)
# Of 24 permutations, the six that leave stream 1 at home, the identity among them.
PERMUTATIONS = row(1 + 5 * SOFT, 6 * SOFT)


@dataclass(frozen=True)
class Arm:
    """What must come true of an arm at n = 4, beside what its file says: bound, exactness, constraint.

    row: row 0 of H_res at the start; None: see `distance`. distance: ||H_res - I||_F there.
    near: std of the numbers about the start where the bound is shown; None: N(0, 1) about 0. phi, static: rows of
    phi (in units of C) and other parameters of a connection. pre_norm: how near to the baseline's function at
    step 0; None: it is another. alike: streams never separate. dead: parts that no sub-layer learns, beside those
    of `dead_of`.
    """

    row: tuple[float, ...] | None = A6
    distance: float | None = A6_DISTANCE
    near: float | None = None
    phi: int = 96
    static: int = 27
    pre_norm: float | None = 1e-9
    alike: bool = False
    dead: tuple[str, ...] = ()
    sums: float = 1e-6  # how near to 1 sums are that are meant to be


FIXED = {"phi": 32, "static": 10}  # reads and writes alone
STATIC = {"phi": 0, "static": 24}
LITE = {"phi": 128, "static": 35}  # 4! numbers
KRONECKER = {"phi": 48, "static": 15}
TREE = {"phi": 68, "static": 20}
ROTATION = {"phi": 56, "static": 17}
QUARTER = {"pre_norm": None}  # branches are written at 1/n, or not by the same amount to all

ARMS = {
    "identity": Arm(ONE, 0.0, **FIXED),
    "uniform": Arm(UNIFORM, math.sqrt(3), **FIXED),
    "random_mixing": Arm(None, None, **FIXED),
    "hc": Arm(ONE, 0.0, phi=6),
    "hc_original": Arm(ONE, 0.0, phi=6, static=26),
    "hc_static": Arm(ONE, 0.0, **STATIC),
    "published_hc": Arm(ONE, 0.0, **STATIC, alike=True),
    "mhc_unconstrained": Arm(pre_norm=1e-6),  # its rows sum to 1 as far as float32 can hold them
    "mhc_exponent": Arm(pre_norm=1e-6),
    "mhc_spectral": Arm(),
    # Entries have no bound, so of rows that sum to 1 a product keeps no more than rounding lets it.
    "mhc_signed_rows": Arm(near=0.02),
    "mhc": Arm(),
    "mhc_implicit": Arm(),
    "mhc_static": Arm(**STATIC),
    "mhc_lss": Arm(pre_norm=None),
    "mhc_uniform": Arm(UNIFORM, math.sqrt(3), alike=True),
    "mhc_lite_baseline": Arm(row(1, SOFT), None, **QUARTER),
    "mhc_lucidrains": Arm(row(math.e, 1), None, **QUARTER),
    "mhc_warm": Arm((0.7112346, *[0.0962551] * 3), None, **STATIC, **QUARTER),
    "mhc_tokenbender": Arm(ONE, 0.0, **STATIC, **QUARTER, dead=("mix",)),
    "published_mhc": Arm(
        UNIFORM, math.sqrt(3), **STATIC, **QUARTER, alike=True, dead=("read", "write", "mix")
    ),
    "mhc_lite": Arm(**LITE),
    "mhc_lite_paper": Arm(PERMUTATIONS, None, **LITE, **QUARTER),
    "kromhc": Arm(None, A6_DISTANCE, **KRONECKER),
    "kromhc_paper": Arm(
        tuple(weight / (1 + SOFT) ** 2 for weight in (1, SOFT, SOFT, SOFT**2)), None, **KRONECKER
    ),
    "go_mhc": Arm(None, A6_DISTANCE, phi=144, static=39),
    "tbp": Arm(**TREE),
    "tbp_paper": Arm((0.5, 0.25, 0.125, 0.125), None, **TREE),
    "identity_mix": Arm(phi=100, static=28),
    "identity_mix_tokenbender": Arm(ONE, 0.0, phi=0, static=25, **QUARTER, dead=("mix",)),
    "row_stochastic": Arm(),
    "orthogonal": Arm(None, A6_DISTANCE, **ROTATION),
    "jpmhc": Arm(ONE, 0.0, **ROTATION),
    "ohc": Arm(ONE, 0.0, phi=64, static=18),
    "s2hc": Arm(None, A6_DISTANCE, **TREE),
    "column_stochastic": Arm(),
    "oshc": Arm(),
    "cmhc": Arm(tuple(0.8 * weight + 0.05 for weight in PERMUTATIONS), None, **LITE),
    "xhc_clamp": Arm(),
    "deepseek_v4": Arm(distance=None, pre_norm=1e-5, sums=1e-5),
    "single_pass": Arm(),
    "mhc_annealed": Arm(),
    "residual_scale": Arm(ONE, 0.0, phi=0, static=1),
    "orthostochastic": Arm(None, A6_DISTANCE, pre_norm=1e-4),  # sigma^2 of 20 steps is 1 to 1e-6
    "orthostochastic_tokenbender": Arm((0.25016, *[0.25201] * 3), None, **STATIC, **QUARTER),
}
# Whose connection is another than one of streams with a parametrised H_res: what holds of any model.
BESIDE = {
    "gated_residual": Arm(),
    "attention_residuals": Arm(dead=("weigh",)),
    "muddformer": Arm(),
    "muddformer_normed": Arm(pre_norm=None, dead=("weigh",)),  # its scale starts off 0
}
HISTORY = ("history", "history_detached", "history_simplex")
RESIDUAL = ("baseline", "baseline_quarter")
WHOLE = ARMS | BESIDE
SIZES = [1, 2, 4, 8]


@pytest.fixture(params=ARMS)
def each(request: pytest.FixtureRequest) -> str:
    """Run a test once for each arm with streams."""
    return request.param


@pytest.fixture(params=WHOLE)
def whole(request: pytest.FixtureRequest) -> str:
    """Run a test once for each arm but a residual and a history."""
    return request.param


def random_numbers(size, count, scale, dtype=torch.float32, seed=0) -> Tensor:
    return scale * torch.randn(size, count, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixing_of(connection, arm, n=4):
    return make_mixing(connection(arm).mixing, n)


def sums_to_one(arm: str) -> tuple[bool, bool]:
    """Say whether rows and columns of H_res sum to 1 to rounding, as a bound of 1 promises."""
    forward, backward = abouts()[arm].bound
    at_most = abouts()[arm].constraint == "sums at most 1"
    return forward == 1 and not at_most, backward == 1 and not at_most


def can_have(arm: str, n: int) -> bool:
    """Say whether a family is not too large at n streams, or made for another number: refused, below."""
    few = settings(arm)["mixing"]["kind"] in ("permutations", "mean_permutations") and n > 4
    return not few and (arm != "ohc" or n == 4)


def test_every_arm_is_in_the_table():
    assert {*ARM_NAMES} == {*ARMS, *BESIDE, *HISTORY, *RESIDUAL}
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


def test_what_a_file_says_of_its_constraint_and_start_is_true(connection, each):
    about = abouts()[each]
    if about.constraint == "doubly stochastic":
        assert about.exact == all(sums_to_one(each))
        assert mixing_of(connection, each).doubly_stochastic
    elif about.constraint == "none":
        assert about.bound == (None, None)
    starts = {"I": ONE, "J/n": UNIFORM, "A.6": A6}
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


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("arm_name", [arm for arm in ARMS if ARMS[arm].distance == A6_DISTANCE])
def test_with_other_numbers_of_streams_a_start_is_as_near_to_i_as_app_a6_is(connection, arm_name, n):
    # Numbers of a free H_res are given for n = 4; the only such rotation of two is I.
    free = settings(arm_name)["mixing"]["kind"] == "free"
    if free or not can_have(arm_name, n) or (arm_name, n) == ("orthogonal", 2):
        return
    distances = []
    for name in (arm_name, "mhc"):
        mixing = mixing_of(connection, name, n)
        distances.append((mixing.matrix(mixing.initial()[:, None])[..., 0] - torch.eye(n)).norm().item())
    assert distances[0] == pytest.approx(distances[1], rel=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_the_constraint_is_met_in_float32_whatever_the_numbers(connection, each, n):
    if not can_have(each, n):
        return
    mixing = mixing_of(connection, each, n)
    rows, columns = sums_to_one(each)
    for scale in (0.1, 1.0, 3.0):
        h = mixing.matrix(random_numbers(mixing.size, 200, scale))
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


@pytest.mark.parametrize(("name", "n"), [("mhc_lite", 5), ("mhc_lite", 8), ("cmhc", 8), ("kromhc", 6)])
def test_a_number_of_streams_that_a_family_cannot_have_is_one_line(connection, name, n):
    with pytest.raises(UserError, match=f"connection.n={n}.*for example connection.n=4"):
        mixing_of(connection, name, n)


def test_numbers_for_each_stream_fill_square_matrices_only(connection):
    with pytest.raises(UserError, match=r"use connection\.coefficients=flat"):
        build(connection("mhc_lite", coefficients="stream"), 0, 8)


def test_composite_gains_over_64_sub_layers_stay_within_their_bounds(connection, each):
    mixing, expected = mixing_of(connection, each), ARMS[each]
    numbers = random_numbers(64 * mixing.size, 16, expected.near or 1.0).view(64, mixing.size, 16)
    if expected.near:
        numbers = numbers + mixing.initial()[:, None].float()
    made = (mixing.at(layer).matrix(each_layer) for layer, each_layer in enumerate(numbers))
    h_res = torch.stack([h.permute(2, 0, 1) for h in made])
    rows = gain_rows(h_res)
    forward, backward = (max(row[f"composite_{way}"] for row in rows) for way in ("forward", "backward"))
    bound = abouts()[each].bound
    assert all(
        gain <= most + 1e-4 for gain, most in zip((forward, backward), bound, strict=True) if most is not None
    )
    if all(sums_to_one(each)):
        assert (forward, backward) == pytest.approx((1, 1), abs=1e-4)
    # nothing bounds these
    if each in ("hc", "jpmhc", "mhc_signed_rows") or each.startswith("orthostochastic_"):
        assert max(forward, backward) > 1.01


@pytest.mark.parametrize(("name", "kept"), [("oshc", "rows"), ("cmhc", "both")])
def test_what_changes_along_the_depth_does_so_where_it_says(connection, name, kept):
    first = settings(name)["mixing"]["first"]
    mixing = mixing_of(connection, name)
    numbers = random_numbers(mixing.size, 50, 1.0, torch.float64)
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
    weights, gradients = random_numbers(16, 50, 1.0, torch.float64, seed=2), []
    for name in ("mhc", "mhc_implicit"):
        mixing = mixing_of(connection, name)
        numbers = mixing.initial()[:, None].repeat(1, 50).requires_grad_()
        (mixing.matrix(numbers).flatten(0, 1) * weights).sum().backward()
        gradients.append(numbers.grad)
    assert ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item() == pytest.approx(0.6, abs=0.1)


def test_float64_gradients_are_those_of_finite_differences(connection, each):
    mixing = mixing_of(connection, each)
    if mixing.size == 0:
        return
    # The implicit gradient is exact where the iterations have converged; a low temperature is logits far apart.
    given = settings(each)["mixing"]
    scale = 0.05 if given.get("gradient") == "implicit" or given.get("temperature", 1) < 1 else 0.7
    numbers = random_numbers(mixing.size, 2, scale, torch.float64, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(mixing.matrix, (numbers,), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(connection, each, dtype):
    mixing = mixing_of(connection, each)
    assert mixing.matrix(random_numbers(mixing.size, 3, 1.0, dtype)).dtype == dtype


def test_parameters_are_the_papers_count(connection, each):
    named = dict(build(connection(each), 1, 64).named_parameters())
    phi = sum(p.numel() for name, p in named.items() if name.endswith("phi"))
    assert phi == ARMS[each].phi * 64
    assert sum(p.numel() for p in named.values()) - phi == ARMS[each].static


def test_what_is_pre_norm_at_the_start_gives_the_baselines_logits(tiny, whole):
    with torch.no_grad():
        expected, logits = (tiny(name)(tokens()[0]) for name in ("baseline", whole))
    difference, near = (logits - expected).abs().max().item(), WHOLE[whole].pre_norm
    assert difference < near if near else difference > 1e-3


# Which gradients are zero, and why, beside an arm's own `dead`:
# - read of sub-layer 1: h is a multiple of x, and the branch's norm removes the factor;
# - mix of sub-layer 1: rows that sum to 1 leave copies alone;
# - mix of sub-layer L: exactly column-stochastic matrices vanish in the sum over streams.
# Streams that differ at once (LSS) have none of these; softmax writes cannot show at L, where streams are summed.
def dead_of(each: str) -> set[str]:
    if each in BESIDE:
        return {f"0.{part}" for part in BESIDE[each].dead}  # of one output the weights do not matter
    rows, columns = sums_to_one(each)
    dead = {f"{layer}.{part}" for layer in range(4) for part in ARMS[each].dead}
    if each != "mhc_lss":
        dead |= set() if each == "single_pass" else {"0.read"}
        if rows or each == "oshc":  # of which there are no more sub-layers here than have rows of 1
            dead.add("0.mix")
    if columns:
        dead.add("3.mix")
    if settings(each).get("gate") == "softmax":
        dead.add("3.write")
    if each in ("mhc_uniform", "mhc_lucidrains"):  # near J/n Sinkhorn has converged: all sums are exact
        dead |= {"0.mix", "3.mix"}
    if each == "mhc_uniform":  # all streams alike: reads are multiples of x, mixing changes nothing
        dead |= {f"{layer}.{part}" for layer in range(4) for part in ("read", "mix")}
    if each == "published_hc":  # one stream read by a sum: its factor is removed by the norm
        dead |= {f"{layer}.read" for layer in range(4)}
    return dead


def test_what_should_learn_moves_and_what_cannot_has_no_gradient(tiny, whole):
    model = tiny(whole, model={"norm_eps": 1e-30})
    start = {name: parameter.detach().clone() for name, parameter in model.connection_parameters()}
    train(model, steps=6)
    everywhere = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for name, parameter in model.connection_parameters():
        if not name.startswith("connections."):
            continue
        _, layer, part, *rest = name.split(".")
        shared = (whole, *rest) in (("hc_original", "alpha"), ("muddformer_normed", "scale"))
        gradient = (parameter.grad.norm() / everywhere).item()
        moved = (parameter - start[name]).abs().max().item()
        if f"{layer}.{part}" in dead_of(whole) and not shared:
            assert gradient < 1e-9, name  # published_hc's and near-converged Sinkhorn's are small, not zero
        elif not (layer == "3" and part == "mix"):  # truncation errors alone let it through
            assert gradient > 1e-12, name
            assert moved > 1e-6, name


def test_streams_separate_or_the_table_says_they_cannot(tiny, whole):
    model = tiny(whole)
    if whole == "residual_scale":
        return  # one stream
    train(model, steps=5)
    assert (max(spread(model)) < 1e-6) == WHOLE[whole].alike


def test_under_autocast_maps_stay_float32(tiny, whole):
    model, dtypes = tiny(whole, awake=0.3, precision="bfloat16"), set()
    model(tokens()[0], lambda _, x, maps: dtypes.update({x.dtype, *(m.dtype for m in maps or ())}))
    assert dtypes == {torch.float32}


def code_of(arm: str) -> str:
    """Say which code an arm runs: its settings without what only moves a start or a number of iterations."""
    starts = ("name", "alpha", "read_start", "write_start", "expand", "reduce", "expects")
    of_mixing = ("start", "share", "seed", "iterations", "eps", "first", "temperature")
    given = {key: value for key, value in settings(arm).items() if key not in starts}
    mixing = {key: value for key, value in given.pop("mixing", {}).items() if key not in of_mixing}
    return repr(sorted({**given, **mixing}.items()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", {code_of(arm): arm for arm in WHOLE}.values())
def test_the_maps_trace_without_a_break(connection, name):
    config = connection(name)
    unrolled = config.mixing.keys() & {"iterations", "steps"}  # which takes long to trace
    config.mixing = config.mixing | dict.fromkeys(unrolled, 2)
    module = build(config, 1, 8).train()
    x = torch.randn(1, 5, module.n, 8, generator=torch.Generator().manual_seed(0))
    plain, plain_maps, _ = module(x, torch.sin)
    torch._dynamo.reset()
    traced = torch.compile(lambda x: module(x, torch.sin), fullgraph=True, backend="aot_eager", dynamic=False)
    out, maps, _ = traced(x)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(maps, plain_maps)


@pytest.mark.parametrize("arm_name", ARM_NAMES)
def test_the_future_changes_nothing_before_it(tiny, arm_name):
    model, inputs = tiny(arm_name, awake=0.3), tokens()[0]
    with torch.no_grad():
        before = model(inputs)
        for position in range(inputs.shape[1]):
            moved = inputs.clone()
            moved[:, position] = (moved[:, position] + 1) % VOCAB
            change = (model(moved) - before).abs().amax((0, 2))
            assert change[:position].tolist() == pytest.approx([0] * position, abs=1e-12)
            assert change[position:].min() > 1e-6
