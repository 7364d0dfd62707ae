"""Attention in which every query sees intervals of the keys: one fused kernel, forward only.

What bent positions, sliding windows, attention sinks and ALiBi need beyond plain attention,
with memory linear in the length. Importing this imports torch alone.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim,
P passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..rope.autograd import HAS_TRITON, needs_transform

MAX_PASSES, MAX_HEAD_DIM = 3, 256
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def can_attend_to_intervals(head_dim: int, dtype: torch.dtype) -> bool:
    """Whether `interval_attention` takes heads of that many components of that dtype.

    It takes none while torch.func or forward-mode differentiation is at work, of which it knows
    nothing.
    """
    takes = HAS_TRITON and 1 <= head_dim <= MAX_HEAD_DIM and dtype in DTYPES
    return takes and not needs_transform()


def interval_attention(
    q: Sequence[Tensor] | Tensor,
    k: Sequence[Tensor] | Tensor,
    v: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    slopes: Tensor | None = None,
) -> Tensor:
    """softmax(scores) v, where query s sees the keys low[p, s] <= j < high[p, s] of each pass p
    by the scores q[p]·k[p] / sqrt(D).

    Scores, softmax and sums are in float32; 16-bit data is multiplied by tensor cores, float32
    data in full precision. Intervals of one query must not overlap; a query without any key gets
    zeros. On a CPU the kernel runs in Triton's interpreter.

    Args:
        q: (B, S, H, D) for each of 1 to 3 passes, a sequence or stacked; D at most 256; float32,
            bfloat16 or float16; any strides.
        k: (B, T, Hk, D) for each pass, of q's dtype; several passes may have the same tensor. Hk
            divides H: every H / Hk heads of queries share one.
        v: (B, T, Hk, D).
        low, high: (P, S) int32, in [0, T], along S never decreasing (which is not looked at).
        slopes: (H,) float32, with one pass: ALiBi (arXiv:2108.12409), subtracts
            slope · (high - 1 - j), high - 1 being the query's own place among the keys.

    Returns:
        (B, S, H, D) in q's dtype.

    Raises:
        ValueError: an argument breaks one of these rules, a gradient is asked for (of torch.func
            or in forward mode too), or triton is not installed.
    """
    q, k = tuple(q), tuple(k)
    _check_passes(q, k, v)
    _check_bounds(q, low, high, slopes)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (*q, *k, v)):
        raise ValueError("interval_attention: has no gradient; call it under torch.no_grad()")
    if needs_transform():
        raise ValueError("interval_attention: has no rule for torch.func or forward mode")
    if not HAS_TRITON:
        raise ValueError("interval_attention: triton is not installed here")
    from .triton_intervals import attend

    # The kernel reads memory as it is.
    q, k = (tuple(x.resolve_neg() for x in passes) for passes in (q, k))
    return attend(q, k, v.resolve_neg(), low.contiguous(), high.contiguous(), slopes)


def _check_passes(q: tuple[Tensor, ...], k: tuple[Tensor, ...], v: Tensor) -> None:
    if len(q) != len(k) or not 1 <= len(q) <= MAX_PASSES:
        raise ValueError(
            f"{len(q)} passes of q and {len(k)} of k: must be as many, from 1 to {MAX_PASSES}"
        )
    if v.dtype not in DTYPES:
        raise ValueError(f"v is {v.dtype}: must be float32, bfloat16 or float16")
    for name, x in (*(("q", x) for x in q), *(("k", x) for x in k), ("v", v)):
        if x.dtype != v.dtype or x.device != v.device:
            raise ValueError(
                f"{name} is {x.dtype} on {x.device}: must be as v is, {v.dtype} on {v.device}"
            )
        like = q[0].shape if name == "q" else v.shape
        if x.ndim != 4 or x.shape != like:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: must be {tuple(like)}, of 4")
    (batch, _, heads, head_dim), (v_batch, _, kv_heads, v_dim) = q[0].shape, v.shape
    if (batch, head_dim) != (v_batch, v_dim):
        raise ValueError(
            f"q has shape {tuple(q[0].shape)} and v {tuple(v.shape)}: batch and head_dim must agree"
        )
    if not 1 <= head_dim <= MAX_HEAD_DIM:
        raise ValueError(f"head_dim={head_dim}: must be from 1 to {MAX_HEAD_DIM}")
    if kv_heads == 0 or heads % kv_heads:
        raise ValueError(f"{heads} heads of q and {kv_heads} of k: must be a multiple")


def _check_bounds(q: tuple[Tensor, ...], low: Tensor, high: Tensor, slopes: Tensor | None) -> None:
    shape, device = (len(q), q[0].shape[1]), q[0].device
    for name, x in (("low", low), ("high", high)):
        if x.dtype != torch.int32 or x.shape != shape or x.device != device:
            raise ValueError(
                f"{name} is {x.dtype} {tuple(x.shape)} on {x.device}: must be int32 {shape} on "
                f"{device}"
            )
    if slopes is None:
        return
    if len(q) > 1:
        raise ValueError(f"slopes with {len(q)} passes: must be with one")
    heads = q[0].shape[2]
    if slopes.dtype != torch.float32 or slopes.shape != (heads,) or slopes.device != device:
        raise ValueError(
            f"slopes is {slopes.dtype} {tuple(slopes.shape)} on {slopes.device}: must be float32 "
            f"({heads},) on {device}"
        )
