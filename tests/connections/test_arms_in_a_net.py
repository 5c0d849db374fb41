"""What must hold of a net of any arm: its function at the start, what learns, what sees what, what compiles."""

import pytest
import torch

from arms_table import ARMS, BESIDE, WHOLE, sums_to_one
from drawn_numbers import drawn
from mhc_repro.arm_files import settings
from mhc_repro.connections import build
from tiny_steps import VOCAB, spread, tokens, train
from yaml_files import ARM_NAMES


@pytest.fixture(params=WHOLE)
def whole(request: pytest.FixtureRequest) -> str:
    """Run a test once for each arm but a residual."""
    return request.param


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


def test_what_should_learn_moves_what_cannot_has_no_gradient_and_streams_separate(tiny, whole):
    model = tiny(whole, model={"norm_eps": 1e-30})
    start = {name: parameter.detach().clone() for name, parameter in model.connection_parameters()}
    train(model, steps=6)
    assert all(parameter.grad is not None for parameter in model.parameters())  # which DDP would wait for
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
    if whole != "residual_scale":  # of one stream
        assert (max(spread(model)) < 1e-6) == WHOLE[whole].alike


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
    long = {key for key in ("iterations", "steps") if config.mixing.get(key, 0) > 2}  # to trace, unrolled
    config.mixing = config.mixing | dict.fromkeys(long, 2)
    module = build(config, 1, 8).train()
    x = drawn(1, 5, module.n, 8, dtype=torch.float32)
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
