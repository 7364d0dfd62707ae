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

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, S, V) after each of `tokens` (B, S)."""
        logits = self.model(tokens[:, -self.tokens :])
        return F.pad(logits, (0, 0, tokens.shape[1] - logits.shape[1], 0))
