"""The fused kernel of `kernels.interval_attention` as the model uses it.

Bounds and positions depend on the remap and the lengths alone: they are made once and serve every
layer.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim,
P passes.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import can_attend_to_intervals, interval_attention
from methods.maps import Remap, Window, intervals

# Remaps and lengths whose bounds and positions are kept; a CUDA graph reads them, and must be
# replayed before so many others have come.
KEPT = 16


def can_fuse(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel takes these, (…, D): on a GPU, where nothing asks for a gradient.

    Not while torch.compile traces: the operators of the other paths are what it can fuse.
    """
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return (
        q.is_cuda
        and not wants_gradient
        and not torch.compiler.is_compiling()
        and can_attend_to_intervals(q.shape[-1], q.dtype)
    )


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int | None,
    *,
    past: int = 0,
    slopes: Tensor | None = None,
) -> Tensor:
    """Causal attention of q (B, S, H, D) to the last `window` of the keys k, v (B, T, Hk, D).

    Query s is the token number past + s. `window` None: all keys up to it. `slopes` (H,) float32
    of ALiBi, by the distance in tokens. Returns (B, S, H, D).
    """
    bounds = key_bounds(Window(window or k.shape[1]), past, q.shape[1], q.device)
    return interval_attention((q,), (k.to(q.dtype),), v.to(q.dtype), *bounds, slopes=slopes)


class PassPositions(NamedTuple):
    """Where each pass rotates queries (S,) and keys (T,) to, int64."""

    queries: list[Tensor]
    keys: list[Tensor]


@functools.lru_cache(maxsize=KEPT)
def pass_positions(remap: Remap, past: int, seq_len: int, device: torch.device) -> PassPositions:
    """For S queries from token `past` on, and all keys up to the last of them."""
    with torch.inference_mode(False):  # what is kept must be usable outside of it
        keys = torch.arange(past + seq_len, device=device)
        passes = remap.passes()
        return PassPositions([p.query(keys[past:]) for p in passes], [p.key(keys) for p in passes])


@functools.lru_cache(maxsize=KEPT)
def key_bounds(
    remap: Remap, past: int, seq_len: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """low and high of every pass for S queries from token `past` on: int32 (P, S)."""
    with torch.inference_mode(False):
        low, high = intervals(remap, torch.arange(past, past + seq_len, device=device))
        return low.int(), high.int()
