"""AdamW with weight decay on matrices only, and the learning rate as a function of the step."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True)
class OptimizerConfig:
    """The keys under `optimizer`."""

    lr: float
    final_lr_fraction: float = 0.1
    warmup_steps: int = 0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95


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
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    optimizer = AdamW(groups, lr=config.lr, betas=betas, fused=parameters[0].is_cuda or None)
    schedule = LambdaLR(
        optimizer,
        lambda step: lr_factor(step, max_steps, config.warmup_steps, config.final_lr_fraction),
    )
    return optimizer, schedule
