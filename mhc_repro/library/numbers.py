"""What a user's training step leaves behind as numbers of a row: gradient norms, and what it names itself."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from mhc_repro.errors import UserError
from mhc_repro.library.finding import Found
from mhc_repro.schema import Row


@torch.no_grad()
def gradient_norms(model: nn.Module, found: Sequence[Found]) -> Row:
    """Return the norms of the gradients as they are: of the body, of the connections, of both; none without any.

    Of both alone where no parameter is known to be the connections'.
    """
    own = {id(p) for each in found for p in each.adapter.parameters(each.module)}
    parts: dict[str, list[Tensor]] = {"body": [], "connection": []}
    for parameter in model.parameters():
        if parameter.grad is not None:
            parts["connection" if id(parameter) in own else "body"].append(parameter.grad)
    if not parts["body"] and not parts["connection"]:
        return {}
    norms = {name: _norm(grads) for name, grads in parts.items()}
    named: Row = {f"grad/norm_{name}": norm for name, norm in norms.items()} if own else {}
    return named | {"grad/norm": torch.hypot(*norms.values())}


def _norm(grads: Sequence[Tensor]) -> Tensor:
    """Return the norm of all, in float32 or wider whatever they are in, on the CPU: a GPU is waited for once."""
    dense = [grad.coalesce().values() if grad.is_sparse else grad for grad in grads]
    norms = [vector_norm(grad, dtype=torch.promote_types(grad.dtype, torch.float32)) for grad in dense]
    return (
        vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])).cpu()
        if norms
        else torch.zeros(())
    )


def kept(key: str, value: Any) -> Any:
    """Keep a number as it is now, since the next step may write to its tensor; UserError for what is none."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().clone()
    if value is None or isinstance(value, Real):
        return value
    shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise UserError(f"{key}={shown}: must be one number")


def plain(value: Any) -> Any:
    """Return a tensor's number; a GPU is waited for here."""
    return value.item() if isinstance(value, Tensor) else value
