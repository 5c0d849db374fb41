"""What of a model with connections decays, and at which rate it learns: groups of parameters for AdamW."""

from typing import Any

from torch import nn

from mhc_repro import connections
from mhc_repro.connections import base
from mhc_repro.connections.ends import Copies, Reduction
from mhc_repro.errors import UserError
from mhc_repro.rules import POSITIVE, at_least

# A word of a bare parameter's name begins so, or it ends in such a word, as a ViT's cls_token
EMBEDS, TOKENS = ("emb", "position"), ("token", "tokens")


def parameter_groups(
    model: nn.Module, weight_decay: float = 0.1, *, lr: float | None = None, connection_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Return groups for AdamW: matrices and phi decay; embeddings, norms, biases, alpha, b and theta do not.

    With `lr`, connections get `connection_lr` times that rate, and their decay is divided by it, since AdamW decays
    by rate x weight_decay a step (as in training/optim.py of the suite). UserError for a factor without a rate, and
    for numbers that AdamW has no use for.
    """
    rates = (("lr", 1.0 if lr is None else lr, POSITIVE), ("connection_lr", connection_lr, POSITIVE))
    for key, value, rule in (*rates, ("weight_decay", weight_decay, at_least(0))):
        if not rule.holds(value):
            raise UserError(f"{key}={value}: must be {rule.allowed}")
    if lr is None and connection_lr != 1:
        raise UserError(f"connection_lr={connection_lr}: needs lr=, the rate it multiplies")
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    parts = connections.Connection | Copies | Reduction
    own = {id(p) for m in model.modules() if isinstance(m, parts) for p in m.parameters()}
    members: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        is_own = id(parameter) in own
        matrix = parameter.dim() > 1 and not (id(parameter) in embeddings or _embeds(name))
        decays = base.decays(name) if is_own else matrix
        members.setdefault((connection_lr if is_own else 1.0, decays), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay / factor if decays else 0.0}
        | ({} if lr is None else {"lr": lr * factor})
        for (factor, decays), parameters in members.items()
    ]


def _embeds(name: str) -> bool:
    words = name.rpartition(".")[2].split("_")
    return any(word.startswith(EMBEDS) for word in words) or words[-1] in TOKENS
