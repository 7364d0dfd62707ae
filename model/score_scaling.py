"""Scores scaled with log n at evaluation time.

Shapes: B batch, S sequence, H heads, D head_dim.
"""

import math

import torch
from torch import Tensor


def log_n_scaled(q: Tensor, positions: Tensor | None, train_length: int) -> Tensor:
    """q (B, S, H, D) times max(1, ln n / ln train_length), n = position + 1 the keys it may see.

    Softmax over more keys than in training is flatter; this keeps its entropy (J. Su, "On the
    scale operation of attention from entropy invariance", kexue.fm/archives/8823, and 9708).
    Exactly q for positions below `train_length`. `positions`: (S,) or (B, S); None: from 0.
    """
    if positions is None:
        positions = torch.arange(q.shape[1], device=q.device)
    precision = torch.promote_types(q.dtype, torch.float32)
    n = (positions + 1).to(precision)
    beyond = n.clamp(min=train_length).log() / math.log(train_length)
    scale = torch.where(positions < train_length, 1.0, beyond)[..., None, None]  # (…, S, 1, 1)
    return (q * scale).to(q.dtype)
