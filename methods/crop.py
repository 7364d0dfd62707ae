"""The crop control: a model that reads the end of its context and nothing before it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CropCache:
    """The tokens that a `Cropped` has read: none of its keys outlive a step, for the next one
    counts positions from another token."""

    def __init__(self) -> None:
        self.tokens: Tensor | None = None  # (B, at most Cropped.tokens)
        self.length = 0

    def append(self, tokens: Tensor, most: int) -> Tensor:
        """Add new tokens (B, S); the last `most` of all, of which there may be fewer."""
        self.length += tokens.shape[1]
        held = tokens if self.tokens is None else torch.cat((self.tokens, tokens), dim=1)
        self.tokens = held[:, -most:]
        return self.tokens


class Cropped(nn.Module):
    """`model`, restricted to the last `tokens` tokens of what it is given.

    It predicts nothing before them: those logits are zero, all tokens alike.
    """

    def __init__(self, model: nn.Module, tokens: int) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens
        self.config: Any = model.config
        self.training = model.training

    def new_cache(self, batch_size: int, max_length: int) -> CropCache:
        """An empty cache; each call reads the end of what is in it anew."""
        return CropCache()

    def forward(
        self,
        tokens: Tensor,
        cache: CropCache | None = None,
        *,
        mask: None = None,
        logits_to_keep: int | None = None,
    ) -> Tensor:
        """Logits (B, S, V) after each of `tokens` (B, S); as `Transformer.forward`, unpadded."""
        assert mask is None
        read = tokens[:, -self.tokens :] if cache is None else cache.append(tokens, self.tokens)
        wanted = tokens.shape[1] if logits_to_keep is None else logits_to_keep
        logits = self.model(read, logits_to_keep=min(wanted, read.shape[1]))
        return F.pad(logits, (0, 0, wanted - logits.shape[1], 0))
