"""Attention over intervals, written out pair by pair in float64."""

import math

import torch
from torch import Tensor


def attention(q, k, v: Tensor, low: Tensor, high: Tensor, slopes: Tensor | None = None) -> Tensor:
    """What `kernels.interval_attention` says it computes, (B, S, H, D) float64."""
    group, j = q[0].shape[2] // v.shape[2], torch.arange(v.shape[1], device=v.device)
    scores = v.new_full((1,), -torch.inf, dtype=torch.float64)
    for one_q, one_k, first, end in zip(q, k, low[:, :, None], high[:, :, None], strict=True):
        shared = one_k.double().repeat_interleave(group, 2)
        dots = torch.einsum("bihd,bjhd->bhij", one_q.double(), shared) / math.sqrt(v.shape[-1])
        if slopes is not None:
            dots = dots - slopes.double()[:, None, None] * (end - 1 - j)
        scores = torch.where((j >= first) & (j < end), dots, scores)
    weights = scores.softmax(-1).nan_to_num()  # a query without keys
    return torch.einsum("bhij,bjhd->bihd", weights, v.double().repeat_interleave(group, 2))
