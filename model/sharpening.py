"""Scores that grow with the number of keys: trained (SSMax), or at evaluation time (log n).

Over more keys softmax is flatter: unless the scores grow with ln(n), no key keeps a share of the
weight. Both multiply the queries, before they meet the keys.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math

import torch
from torch import Tensor, nn

from model.cores import broadcastable, visible

TYPICAL_LENGTH = 1024  # where the training length is not known


class ScalableSoftmax(nn.Module):
    """softmax(s · ln(n) · q·k / sqrt(D)) with n the keys that a query sees (arXiv:2501.19399).

    `scale` is s, one for each head, and is learned.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_heads,), ssmax_start(TYPICAL_LENGTH)))

    def forward(
        self, q: Tensor, past: int, n_keys: int, causal: bool, mask: Tensor | None = None
    ) -> Tensor:
        """q (B, S, H, D) times s · ln(n): query i sees past + i + 1 keys, or, not causal, all.

        With a `mask` (`RoPEAttention.forward`) it sees those of them that the mask allows.
        """
        seen = torch.arange(past + 1, past + 1 + q.shape[1], device=q.device)
        seen = (seen if causal else torch.full_like(seen, n_keys))[:, None]  # (S, 1)
        if mask is not None:
            seen = _allowed(mask, q, past, n_keys, causal)
        return self.scaled(q, seen)

    def scaled(self, q: Tensor, seen: Tensor) -> Tensor:
        """q (B, S, H, D) times s · ln(n), n the keys that each query sees: (S, 1) or (B, S, 1)."""
        dtype = torch.promote_types(self.scale.dtype, torch.float32)  # bfloat16 counts to 256
        factor = seen.to(dtype).log() * self.scale.to(dtype)  # (S, H) or (B, S, H)
        return q * factor[..., None].to(q.dtype)


def _allowed(mask: Tensor, q: Tensor, past: int, n_keys: int, causal: bool) -> Tensor:
    """How many keys each query sees, at least 1: (B or 1, S, H or 1)."""
    batch, seq_len, heads, _ = q.shape
    mask = broadcastable(mask, (batch, heads, seq_len, n_keys))
    keys = torch.arange(n_keys, device=q.device)
    seen = (mask & visible(keys[past:], keys, causal=causal)).sum(-1)
    return seen.clamp(min=1).transpose(1, 2)


def ssmax_start(train_length: int) -> float:
    """The s with which s · ln(n) is 1 on average over n = 1 ... train_length: plain softmax."""
    length = max(train_length, 2)
    return length / math.lgamma(length + 1)  # the sum of ln(n) is ln(length!)


def log_n_scaled(q: Tensor, positions: Tensor | None, train_length: int) -> Tensor:
    """q (B, S, H, D) times max(1, ln n / ln train_length), n = position + 1 the keys it may see.

    This keeps the entropy of softmax (J. Su, "On the scale operation of attention from entropy
    invariance", kexue.fm/archives/8823, and 9708). Exactly q for positions below `train_length`.
    `positions`: (S,) or (B, S); None: from 0.
    """
    if positions is None:
        positions = torch.arange(q.shape[1], device=q.device)
    precision = torch.promote_types(q.dtype, torch.float32)
    n = (positions + 1).to(precision)
    beyond = n.clamp(min=train_length).log() / math.log(train_length)
    scale = torch.where(positions < train_length, 1.0, beyond)[..., None, None]  # (…, S, 1, 1)
    return (q * scale).to(q.dtype)
