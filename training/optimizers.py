"""AdamW with weight decay on matrices only, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.rules import above, at_least, number, of

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import AdamW
    from torch.optim.lr_scheduler import LambdaLR

_POSITIVE = above(0, 0.001)
RULES = {
    "lr": of(
        "a finite number above 0, at most 1000", lambda v: _POSITIVE.holds(v) and v <= 1000, 0.001
    ),
    "final_lr_fraction": number(0, 1, 0.1),
    "warmup_steps": at_least(0, 30),
    "weight_decay": number(0, 1e6, 0.1),
    "beta1": number(0, 1 - 1e-12, 0.9),
    "beta2": number(0, 1 - 1e-12, 0.95),
}


@dataclass(frozen=True)
class OptimizerConfig:
    """The keys under `optimizer`; their defaults stand in configs/optimizer."""

    lr: float
    final_lr_fraction: float
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float


def lr_factor(step: int, max_steps: int, warmup_steps: int, final_fraction: float) -> float:
    """The learning rate of optimizer step `step` (from 0), as a fraction of its peak.

    Linear warm-up over `warmup_steps`, then half a cosine down to `final_fraction` at `max_steps`.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine


def build_optimizer(
    net: nn.Module, config: OptimizerConfig, max_steps: int
) -> tuple[AdamW, LambdaLR]:
    """AdamW over the parameters of `net` (fused on CUDA) and its schedule, one call a step.

    Matrices decay; vectors (norm weights) do not, as in GPT-2's and nanoGPT's training.
    """
    from torch.optim import AdamW  # here, so that the rules above need no torch
    from torch.optim.lr_scheduler import LambdaLR

    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (float(config.beta1), float(config.beta2))  # 0 is typed as an integer
    optimizer = AdamW(groups, lr=config.lr, betas=betas, fused=parameters[0].is_cuda or None)
    schedule = LambdaLR(
        optimizer,
        lambda step: lr_factor(step, max_steps, config.warmup_steps, config.final_lr_fraction),
    )
    return optimizer, schedule
