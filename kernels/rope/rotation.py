"""What both backends do first: check the arguments, and have the phases at hand."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rope.arguments import (
    Placement,
    check_factor,
    check_frequencies,
    check_placement,
    check_tensors,
)
from kernels.rope.phases import phases_from_theta, rope_phases


def checked(
    q: Tensor,
    k: Tensor,
    seq_len: int | None,
    theta: float,
    placement: Placement,
    inv_freq: Tensor | None,
    phases: Tensor | None,
    attention_factor: float,
) -> Tensor:
    """Phases int64 (rotary_dim / 2,), dense, on q's device, once all arguments are found good."""
    check_tensors(q, k, seq_len)
    check_placement(placement, q)
    check_frequencies(q, theta, inv_freq, phases)
    check_factor(attention_factor)
    if phases is None and inv_freq is None:
        return phases_from_theta(q.shape[3], theta, q.device)
    if phases is None:
        phases = rope_phases(inv_freq)
    return phases.to(q.device).contiguous()


def token_positions(seq_len: int, placement: Placement, device: torch.device) -> Tensor:
    """The position of every token, (S,) or (B, S), int64: an int32 would wrap at 2^31."""
    if placement.positions is not None:
        return placement.positions.long()
    index = torch.arange(seq_len, device=device)
    if placement.offsets is not None:
        return placement.offsets[:, None].long() + index
    if placement.cu_seqlens is not None:
        starts = placement.cu_seqlens.long().contiguous()
        segment = torch.searchsorted(starts, index, right=True) - 1
        return index - starts[segment.clamp(min=0)]
    return index


def split_heads(qkv: Tensor, n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of qkv (B, S, (H + 2 H_kv) D): q (B, S, H, D), k and v (B, S, H_kv, D)."""
    heads = (n_heads, n_kv_heads, n_kv_heads)
    return qkv.unflatten(-1, (sum(heads), -1)).split(heads, dim=2)
