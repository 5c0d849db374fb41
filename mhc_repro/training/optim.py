"""AdamW with stated decay groups, warm-up then cosine, and a clip whose norms are logged."""

import math

import torch
from torch import Tensor, nn

from mhc_repro.config import OptimConfig
from mhc_repro.training.model import CONNECTION, Transformer


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Say whether weight decay applies: body matrices and phi; not norms, embeddings, alpha or b."""
    if name.startswith(CONNECTION):
        return name.endswith(".phi")
    return parameter.dim() == 2 and not name.startswith(("embedding.", "position."))


def make_optimizer(model: Transformer, config: OptimConfig) -> torch.optim.AdamW:
    """Make AdamW with a decayed and an undecayed group (HC, arXiv 2409.19606, Sec. 4: static maps undecayed)."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (decayed if config.decay_all or decays(name, parameter) else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    beta1, beta2 = config.betas
    return torch.optim.AdamW(groups, lr=config.lr, betas=(beta1, beta2), eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Return the rate of update `step` in 1..steps: linear warm-up, then cosine to final_lr x peak."""
    warmup = round(config.warmup * steps)
    if step <= warmup:
        return config.lr * step / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return config.lr * (config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress)))


class Clipper:
    """Clips by the global norm and reports the norm of all, of the body's and of the connections' gradients."""

    def __init__(self, model: Transformer, limit: float) -> None:
        self.body = [p for _, p in model.body_parameters()]
        self.connections = [p for _, p in model.connection_parameters()]
        self.limit = limit

    @torch.no_grad()
    def clip(self) -> Tensor:
        """Scale the gradients in place; return (all before, body, connections, all after) as a tensor (4,)."""
        device = self.body[0].device
        body, connections = _norm(self.body, device), _norm(self.connections, device)
        total = torch.hypot(body, connections)
        scale = torch.ones_like(total)
        if self.limit > 0:
            scale = (self.limit / total).clamp(max=1.0)
            torch._foreach_mul_(_grads(self.body) + _grads(self.connections), scale)
        return torch.stack([total, body, connections, total * scale])


def _grads(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _norm(parameters: list[nn.Parameter], device: torch.device) -> Tensor:
    norm: Tensor = torch.nn.utils.get_total_norm(_grads(parameters), foreach=True)
    return norm.to(device)  # of no gradients: a zero on the CPU
