"""Normalisation: of the residual stream, and of queries and keys.

Shapes: B batch, S sequence, H heads, D head_dim, C d_model.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import TransformerConfig


def make_norm(config: TransformerConfig) -> nn.Module:
    """The norm of (B, S, C): RMSNorm (arXiv:1910.07467) or LayerNorm (arXiv:1607.06450)."""
    # The norms' own default eps follows the dtype: 0.8 % in bfloat16
    if config.norm == "rms":
        return nn.RMSNorm(config.d_model, eps=config.norm_eps)
    return nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.norm_bias)


class HeadNorm(nn.Module):
    """Normalises queries or keys (B, S, H, D) before the rotation (arXiv:2010.04245).

    `weight` is (D,) for a norm of each head with one weight for all; (H, D) where each head has its
    own, "heads"; and (H D,) for one norm over all heads together, "width".
    """

    def __init__(
        self, config: TransformerConfig, n_heads: int, *, device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.rms, self.eps = config.norm == "rms", config.norm_eps
        self.kind, width = config.qk_norm, config.head_width
        shape = {"heads": (n_heads, width), "width": (n_heads * width,)}.get(str(self.kind))
        self.weight = nn.Parameter(torch.ones(shape or (width,), device=device))

    @property
    def fuses(self) -> bool:
        """Whether it is the norm that `kernels.rope_qkv` does on its way."""
        return self.rms and self.kind is True

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, H, D) -> (B, S, H, D), in x's dtype whatever the weight's."""
        across = x.flatten(-2) if self.kind == "width" else x
        weight = self.weight.type_as(x)  # under autocast a float32 weight would miss the kernel
        shape = across.shape[-1:]
        own = None if self.kind == "heads" else weight
        if self.rms:
            y = F.rms_norm(across, shape, own, self.eps)
        else:
            y = F.layer_norm(across, shape, own, None, self.eps)
        y = y.type_as(x)
        return (y * weight if own is None else y).view_as(x)


def capped(x: Tensor, cap: float | None) -> Tensor:
    """cap · tanh(x / cap), which no value passes (Gemma 2, arXiv:2408.00118); None: x."""
    return x if cap is None else cap * torch.tanh(x / cap)


def relative_scale(attention_scale: float | None, head_dim: int) -> float:
    """What queries are multiplied by, so that q·k / sqrt(D) is attention_scale · q·k."""
    return 1.0 if attention_scale is None else attention_scale * math.sqrt(head_dim)
