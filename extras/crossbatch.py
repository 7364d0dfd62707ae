"""Attention that in training reads several passages of a batch as if they were one long text.

A head without positions and without a window knows what it looks for, not where: what it must
learn for texts longer than those of training is to leave alone the many keys that are none of its
business. Here it meets them at a fraction of the cost of longer passages, since every other head
stays within its own passage. The idea is that of the Focused Transformer (Tworkowski et al. 2023,
arXiv:2307.03170), whose heads meet earlier text of their own document beside that of others; here
all passages are drawn at random.

Shapes: B batch, S sequence, C d_model, G passages read as one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model import RoPEAttention, TransformerConfig
from model.cache import LayerCache
from model.layers import Layer
from model.registry import register_attention


class CrossBatchAttention(RoPEAttention):
    """Attention, causal and without positions, that reads G passages in a row while training.

    The first of them sees itself alone, the last one all: every head meets 1 to G S keys. Half of
    the batch is read passage by passage, since short texts are to be read as well.
    """

    def __init__(self, *arguments: Any, passages: int, **settings: Any) -> None:
        """`passages`: G; the others are those of `RoPEAttention`."""
        super().__init__(*arguments, **settings)
        self.passages = passages

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """(B, S, C) -> (B, S, C) as `RoPEAttention`; passages are read as one in training alone.

        Raises ValueError where B is no multiple of 2 G then.
        """
        if not self.training or self.passages == 1 or mask is not None or cache is not None:
            return super().forward(x, mask, positions=positions, cache=cache)
        if x.shape[0] % (2 * self.passages):
            raise ValueError(
                f"tokens: a batch in training must be a multiple of 2 x model.crossbatch="
                f"{2 * self.passages}; got {x.shape[0]}"
            )
        alone, rest = x.chunk(2)
        joined = rest.unflatten(0, (-1, self.passages)).flatten(1, 2)  # (B / 2G, G S, C)
        read = super().forward(joined).unflatten(1, (self.passages, -1)).flatten(0, 1)
        return torch.cat([super().forward(alone), read])


def set_crossbatch(model: nn.Module, passages: int) -> None:
    """How many passages far heads read as one in training from now on; 1: each by itself.

    Of a model that was built with `model.crossbatch`: others have no such heads.
    """
    assert passages >= 1, passages
    far = [module for module in model.modules() if isinstance(module, CrossBatchAttention)]
    assert far, "no heads that read several passages"
    for attention in far:
        attention.passages = passages


def _kind(config: TransformerConfig, layer: Layer) -> Callable[..., RoPEAttention] | None:
    """Layers without window and positions read several passages where the config says so."""
    if config.crossbatch is None or layer.window is not None or layer.position != "nope":
        return None
    return partial(CrossBatchAttention, passages=config.crossbatch)


register_attention("crossbatch", _kind)
