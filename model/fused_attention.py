"""The fused kernel of `kernels.interval_attention` as attention layers use it.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim.
"""

import functools

import torch
from torch import Tensor

from kernels import can_attend_to_intervals, interval_attention

# Windows and lengths whose bounds are kept for every layer; a CUDA graph reads them, and must be
# replayed before so many others have come.
KEPT = 16


def fuses(backend: str, q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel attends, not PyTorch, which the user may have asked for."""
    return backend != "pytorch" and can_fuse(q, k, v)


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
    slopes: Tensor | None = None,
) -> Tensor:
    """Causal attention of q (B, S, H, D) to the last `window` of the keys k, v (B, T, Hk, D).

    Query s is the token number T - S + s. `window` None: all keys up to it. `slopes` (H,) float32
    of ALiBi, by the distance in tokens. Returns (B, S, H, D).
    """
    bounds = window_bounds(window or k.shape[1], k.shape[1] - q.shape[1], q.shape[1], q.device)
    return interval_attention((q,), (k.to(q.dtype),), v.to(q.dtype), *bounds, slopes=slopes)


@functools.lru_cache(maxsize=KEPT)
def window_bounds(
    window: int, past: int, seq_len: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """low and high of the kernel, int32 (1, S), for S queries from token `past` on."""
    with torch.inference_mode(False):  # what is kept must be usable outside of it
        i = torch.arange(past, past + seq_len, device=device)[None]
        return (i - window + 1).clamp(min=0).int(), (i + 1).int()
