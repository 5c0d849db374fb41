"""AdamW with stated groups of parameters, the schedule of its rate, and a clip whose norms are logged."""

import math
from operator import itemgetter

import torch
from torch import Tensor, nn

from mhc_repro.config import OptimConfig
from mhc_repro.connections import base
from mhc_repro.training.model import CONNECTION, Transformer


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Say whether weight decay applies: body matrices and phi; not norms, embeddings, alpha or b."""
    if name.startswith(CONNECTION):
        return base.decays(name)
    return parameter.dim() == 2 and not name.startswith(("embedding.", "position."))


def make_optimizer(model: Transformer, config: OptimConfig) -> torch.optim.AdamW:
    """Make AdamW with decayed and undecayed groups (HC, arXiv 2409.19606, Sec. 4: static maps undecayed).

    The connections' rate is connection_lr times the body's. AdamW decays by rate x weight_decay a step, so theirs
    is divided by it: what is faster in them is learning alone.
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}  # by factor on the rate, and weight decay
    for name, parameter in model.named_parameters():
        factor = config.connection_lr if name.startswith(CONNECTION) else 1.0
        decay = config.weight_decay / factor if config.decay_all or decays(name, parameter) else 0.0
        members.setdefault((factor, decay), []).append(parameter)
    groups = [
        {"params": parameters, "lr": config.lr * factor, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in sorted(members.items(), key=itemgetter(0), reverse=True)
    ]
    beta1, beta2 = config.betas
    return torch.optim.AdamW(groups, lr=config.lr, betas=(beta1, beta2), eps=config.eps, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next update have the rate `rate` in the body, and its multiple in the connections."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the rate of update `step` in 1..steps: linear warm-up, then constant or cosine to final_lr x peak."""
    warmup = round(config.warmup * steps)
    if step <= warmup:
        return config.lr * step / warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


class Clipper:  # torch's own adds 1e-6 to the norm, and knows of no parts
    """Clips by the global norm, or body and connections apart, each by its own; reports all of these norms."""

    def __init__(self, model: Transformer, limit: float, apart: bool = False) -> None:
        self.body = [p for _, p in model.body_parameters()]
        self.connections = [p for _, p in model.connection_parameters()]
        self.limit, self.apart = limit, apart

    @torch.no_grad()
    def clip(self) -> Tensor:
        """Scale the gradients in place; return (all before, body, connections, all after) as a tensor (4,)."""
        device = self.body[0].device
        body, connections = _norm(self.body, device), _norm(self.connections, device)
        total = torch.hypot(body, connections)
        if self.limit <= 0:
            return torch.stack([total, body, connections, total])
        if self.apart:
            clipped = torch.hypot(self._scale(self.body, body), self._scale(self.connections, connections))
        else:
            clipped = self._scale(self.body + self.connections, total)
        return torch.stack([total, body, connections, clipped])

    def _scale(self, parameters: list[nn.Parameter], norm: Tensor) -> Tensor:
        scale = (self.limit / norm).clamp(max=1.0)
        if gradients := _grads(parameters):
            torch._foreach_mul_(gradients, scale)
        return norm * scale


@torch.no_grad()
def layer_norms(model: Transformer) -> list[dict[str, float]]:
    """Return the norms of the gradients of each sub-layer's branch and of its connection's maps.

    The second is one basis's number, as the composite gain is: the same function written in other streams has
    another. `grad_body` is the one to compare between arms.
    """
    parts = {"grad_body": model.branches, "grad_connection": model.connections}
    device = model.norm.weight.device
    norms = {
        name: torch.stack([_norm(list(each.parameters()), device) for each in modules]).tolist()
        for name, modules in parts.items()
    }
    return [dict(zip(norms, values, strict=True)) for values in zip(*norms.values(), strict=True)]


def _grads(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norm(parameters: list[nn.Parameter], device: torch.device) -> Tensor:
    norm: Tensor = torch.nn.utils.get_total_norm(_grads(parameters), foreach=True)
    return norm.to(device)  # of no gradients: a zero on the CPU
