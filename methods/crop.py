"""The crop control: a model that reads the end of its context and nothing before it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Cropped(nn.Module):
    """`model`, restricted to the last `tokens` tokens of what it is given.

    It predicts nothing before them: those logits are zero, all tokens alike.
    """

    def __init__(self, model: nn.Module, tokens: int) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens
        self.config: Any = model.config

    def forward(self, tokens: Tensor, *, logits_to_keep: int | None = None) -> Tensor:
        """Logits (B, N, V) after the last N = `logits_to_keep` of `tokens` (B, S); None: all."""
        asked = tokens.shape[1] if logits_to_keep is None else logits_to_keep
        seen = tokens[:, -self.tokens :]
        logits = self.model(seen, logits_to_keep=min(asked, seen.shape[1]))
        return F.pad(logits, (0, 0, asked - logits.shape[1], 0))
