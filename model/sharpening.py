"""Scores that grow with the number of keys: trained (SSMax), or at evaluation time (log n).

Over more keys softmax is flatter: unless the scores grow with ln(n), no key keeps a share of the
weight. Both multiply the queries, before they meet the keys.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math

import torch
from torch import Tensor, nn

TYPICAL_LENGTH = 1024  # where the training length is not known


class ScalableSoftmax(nn.Module):
    """softmax(s · ln(n) · q·k / sqrt(D)) with n the keys that a query sees (arXiv:2501.19399).

    `scale` is s, one for each head, and is learned.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_heads,), ssmax_start(TYPICAL_LENGTH)))

    def forward(self, q: Tensor, seen: Tensor) -> Tensor:
        """q (B, S, H, D) times s · ln(n), n the keys that each query sees: `seen` (S,)."""
        dtype = torch.promote_types(self.scale.dtype, torch.float32)  # bfloat16 counts to 256
        factor = seen.to(dtype).log()[:, None] * self.scale.to(dtype)  # (S, H)
        return q * factor[..., None].to(q.dtype)


def keys_counted(seq_len: int, past: int, causal: bool, device: torch.device | str) -> Tensor:
    """How many keys S queries after `past` tokens see: query i past + i + 1, not causal all."""
    seen = torch.arange(past + 1, past + 1 + seq_len, device=device)
    return seen if causal else torch.full_like(seen, past + seq_len)


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
