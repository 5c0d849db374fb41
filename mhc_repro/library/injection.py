"""Connections put into a model that is already there, whose function at step 0 stays what it was.

A block B is x + F(x) with F(x) = B(x) - x, and F becomes the branch of a connection. The n streams start as copies
of the first block's input and travel with the tensor that each block returns, which is their mean: where the model
hands that on to the next block, it hands on these. They stay copies, and the function what it was, as long as

    sum_j H_pre_j = 1        H_post_i = 1        sum_j H_res_ij = 1

which is what starts are moved to; home streams still tell the streams apart, so gradients do. A history
(connections/history.py) has the weights e_newest + a - a_0, a_0 those at its start: they sum to 1 and leave the
simplex by a_0's distance from its vertex, 2e-4 for a softmax, which is the price of a start there with a gradient.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from mhc_repro import connections
from mhc_repro.config import ConnectionConfig
from mhc_repro.connections import Carry
from mhc_repro.connections.history import HistoryConnection
from mhc_repro.connections.hyper import HyperConnection
from mhc_repro.errors import UserError
from mhc_repro.library.arms import connection_config
from mhc_repro.library.finding import matching
from mhc_repro.library.quiet import call_of, evaluating
from mhc_repro.library.residual_form import check, observe
from mhc_repro.library.wrapping import Expand, Reduce, State, Wrapped, check_kind, known

STREAMS = "_mhc_repro_streams"  # on the tensor that an injected block returns
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
NARROW = 5e-2  # of bfloat16 and float16, whose rounding F(x) = B(x) - x meets once more


class Increment(nn.Module):
    """F(x) = B(x) - x of a block; what else it returns is handed on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return F(x) (..., dim), or a tuple that begins with it."""
        output = self.block(x, *args, **kwargs)
        if isinstance(output, tuple | list):
            return (output[0] - x, *output[1:])
        return output - x


class AnchoredHistory(HistoryConnection):
    """A history whose weights are e_newest + a - a_0: x + F(x) at its start."""

    anchor: Tensor

    def __init__(self, config: ConnectionConfig, layer: int, dtype: torch.dtype) -> None:
        super().__init__(config, layer, dim=0)  # a state may have any width
        self.to(dtype)
        start = self.history.weights(self.theta.detach(), None)
        newest = torch.eye(len(start), dtype=start.dtype)[0]
        self.register_buffer("anchor", torch.nn.functional.pad(newest - start, (0, self.n - len(start))))

    def companion(self) -> Tensor:
        matrix = super().companion()
        return torch.cat([matrix[:1] + self.anchor, matrix[1:]])


class Injected(nn.Module):
    """A block of a model with a connection around it; its attributes are the block's."""

    def __init__(self, name: str, wrapped: Wrapped, expand: Expand, reduce: Reduce) -> None:
        super().__init__()
        self.name, self.wrapped, self.expand, self.reduce = name, wrapped, expand, reduce

    @property
    def block(self) -> nn.Module:
        """Return the model's own block."""
        return cast(Increment, self.wrapped.branch).block

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            wrapped = cast(Wrapped, super().__getattr__("wrapped"))
            return getattr(cast(Increment, wrapped.branch).block, name)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Carry the streams that x brings along past the block; the first block makes them."""
        output = self.wrapped(self._streams(x), *args, **kwargs)
        state, rest = _split(output)
        joined = self.reduce(state)
        setattr(joined, STREAMS, state)
        return (joined, *rest) if rest else joined

    def _streams(self, x: Tensor) -> State:
        if self.wrapped.layer == 0:
            return self.expand(x)
        if not hasattr(x, STREAMS):
            raise UserError(
                f"{self.name}: its input brings no streams, so it is not what the block before returned. Gradient "
                "checkpointing around blocks (reentrant) does this, and so does anything between them; use "
                "checkpointing with use_reentrant=False, or eject"
            )
        state: State = getattr(x, STREAMS)
        return state


def _split(output: Any) -> tuple[State, tuple[Any, ...]]:
    """Tell streams from what else a branch returned: a pair with a Carry is streams and what is handed on."""
    if not isinstance(output, tuple):
        return output, ()
    first, *rest = output
    if rest and isinstance(rest[0], Carry):
        return output, ()
    return first, tuple(rest)


def inject(
    model: nn.Module,
    target: type | str,
    connection: str | ConnectionConfig = "mhc",
    n: int | None = None,
    *,
    sample: Any = None,
    **changes: Any,
) -> nn.Module:
    """Put a connection around every block of `model` that `target` names, and return the model, changed in place.

    `target` is a class, its name, or a pattern of module names such as "transformer.h.*"; `connection` an arm of
    this package with `n` streams (the arm's own number if None) and `changes` to its settings. `sample` is an input
    of the model, a tensor, tuple or dict; a transformers model of tokens has one of its own. On it every block is
    checked to be x + F(x), and the whole model to give what it gave: to 1e-5 in float32, 1e-10 in float64, relative
    to the largest output. Raises UserError with the reason otherwise, and the model is then as it was.
    """
    if any(isinstance(module, Injected) for module in model.modules()):
        raise UserError(f"{type(model).__name__} has been injected already; eject(model) first")
    check_kind(connection_config(connection))
    settings = {"reduce": "mean"} | ({} if n is None else {"n": n}) | changes
    config = connection_config(connection, **settings)
    blocks = _blocks(model, target)
    run = _runner(model, sample)
    before = run()
    calls = observe(run, blocks)
    check(calls, list(blocks))
    with ExitStack() as undo:
        undo.callback(eject, model)
        for layer, call in enumerate(calls):
            _put(model, call.name, _injected(config, call.name, blocks[call.name], layer, call.given))
        off = _difference(before, run())
        limit = TOLERANCE.get(calls[0].given.dtype, NARROW)
        if not off <= limit:
            why = _why(model, calls[0].given) or "what the blocks return is used by more than the next block"
            raise UserError(
                f"connection={config.name}: the model's output would change by {off:.1e} of the largest, more than "
                f"{limit:g}: {why}; nothing was injected"
            )
        undo.pop_all()
    return model


def eject(model: nn.Module) -> nn.Module:
    """Give the blocks of an injected model back, as they are now, and return the model, changed in place."""
    for name, module in list(model.named_modules()):
        if isinstance(module, Injected):
            _put(model, name, module.block)
    return model


def parameter_groups(
    model: nn.Module, weight_decay: float = 0.1, *, lr: float | None = None, connection_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Return groups for AdamW: matrices and phi decay; embeddings, norms, biases, alpha, b and theta do not.

    With `lr`, connections get `connection_lr` times that rate, and their decay is divided by it, since AdamW decays
    by rate x weight_decay a step (as in training/optim.py of the suite).
    """
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    own = {id(p) for m in model.modules() if isinstance(m, connections.Connection) for p in m.parameters()}
    for each in model.modules():
        if isinstance(each, Expand | Reduce):
            own |= {id(p) for p in each.parameters()}
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_own = id(parameter) in own
        decays = name.endswith(".phi") if is_own else parameter.dim() > 1 and id(parameter) not in embeddings
        members.setdefault((connection_lr if is_own else 1.0, decays), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay / factor if decays else 0.0}
        | ({} if lr is None else {"lr": lr * factor})
        for (factor, decays), parameters in members.items()
    ]


def _blocks(model: nn.Module, target: type | str) -> dict[str, nn.Module]:
    chosen = {id(module) for module in matching(model, target)}
    places: dict[str, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in chosen and name:
            if any(module is other for other in places.values()):
                first = next(key for key, other in places.items() if other is module)
                raise UserError(
                    f"{name} is {first}: shared blocks would share one connection; copy them first"
                )
            places[name] = module
    for name in places:
        outer = next((other for other in places if name.startswith(f"{other}.")), None)
        if outer is not None:
            raise UserError(f"{name} lies in {outer}: target names both; name the one or the other")
    return places


def _injected(config: ConnectionConfig, name: str, block: nn.Module, layer: int, x: Tensor) -> Injected:
    dim = x.shape[-1]
    wide = torch.promote_types(x.dtype, torch.float32)
    wrapped = Wrapped(config, Increment(block), dim, layer)
    if config.kind == "history":
        wrapped.connection = known(AnchoredHistory(config, layer, wide), config)
    wrapped.connection.to(x.device, wide)
    if isinstance(wrapped.connection, HyperConnection):
        keep_function(wrapped.connection, wide)
    made = Injected(name, wrapped, Expand(config, dim), Reduce(config, dim)).train(block.training)
    made.expand.to(x.device, wide)
    return made


@torch.no_grad()
def keep_function(connection: HyperConnection, dtype: torch.dtype) -> None:
    """Move a start to sum_j H_pre_j = 1, in the proportions it had, and H_post_i = 1, to the digits of `dtype`."""
    form = connection.form
    if connection.mix is not None:
        connection.mix.bias.copy_(form.mixing.initial().to(dtype))
    if connection.read is not None and form.gate == "sigmoid":
        share = connection.read.bias.double().sigmoid()
        connection.read.bias.copy_((share / share.sum()).logit().to(dtype))
    if connection.read is not None and form.gate == "tanh" and connection.read.bias.sum() != 0:
        connection.read.bias.div_(connection.read.bias.sum())
    if connection.write is not None and form.gate != "softmax":
        connection.write.bias.fill_(0.0 if form.gate == "sigmoid" else 1.0)


def _why(model: nn.Module, x: Tensor) -> str:
    """Say which condition the connections of an injected model do not keep."""
    first = next(module for module in model.modules() if isinstance(module, Injected))
    if first.expand.scaled is not None:
        return "expand=lss scales the streams, which are then no copies"
    connection = first.wrapped.connection
    n, dim = connection.n, x.shape[-1]
    copies = x.detach().reshape(1, -1, 1, dim)[:, :8].expand(1, -1, n, dim)
    with torch.no_grad():
        maps = connection(copies, torch.zeros_like).maps
    sums = {
        "H_pre sums to": maps.read.sum(0),
        "H_post is": maps.write,
        "rows of H_res sum to": maps.mix.sum(1),
    }
    for what, value in sums.items():
        worst = value.flatten()[(value - 1).abs().argmax()].item()
        if abs(worst - 1) > 10 * torch.finfo(value.dtype).eps:
            return f"at the arm's start {what} {worst:.8g}, not 1"
    return ""


def _runner(model: nn.Module, sample: Any) -> Callable[[], list[Tensor]]:
    if sample is None:
        sample = getattr(model, "dummy_inputs", None)
    if sample is None:
        raise UserError("sample=: an input of the model is needed, on which blocks and outputs are checked")
    args, kwargs = call_of(sample)

    def run() -> list[Tensor]:
        with evaluating(model):
            return list(_tensors(model(*args, **kwargs)))

    return run


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _tensors(each)
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _tensors(each)


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest difference of two outputs, relative to the largest of each tensor; NaN where one is."""
    pairs = zip(before, after, strict=True)
    off = [(new - old).abs().amax() / old.abs().amax().clamp_min(1e-30) for old, new in pairs if old.numel()]
    return torch.stack([each.double() for each in off]).amax().item()


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
