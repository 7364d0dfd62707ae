"""RoPE in plain PyTorch: what the Triton kernel computes, written to be read.

Each pair (x, y) of a head's components is turned by an angle that grows with the position:

    x' = x·cos - y·sin        y' = x·sin + y·cos        angle = position · inv_freq[pair]

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim, P = R / 2 pairs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.rope.rotation import Placement, checked, split_heads, token_positions


def rope_pytorch(
    q: Tensor,  # (B, S, H, D)
    k: Tensor,  # (B, S, H_kv, D)
    seq_len: int | None = None,
    theta: float = 10000.0,
    *,
    positions: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    offsets: Tensor | None = None,
    inv_freq: Tensor | None = None,
    phases: Tensor | None = None,
    interleaved: bool = True,
    attention_factor: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Rotate q and k by their positions. Arguments, results and errors: see `rope_triton`."""
    placement = Placement(positions, offsets, cu_seqlens)
    phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
    turn = _cos_sin(q, phases, placement, attention_factor)
    return _rotate(q, *turn, interleaved, q.dtype), _rotate(k, *turn, interleaved, k.dtype)


def packed_pytorch(
    qkv: Tensor,  # (B, S, (H + 2 H_kv) D)
    n_heads: int,
    n_kv_heads: int,
    phases: Tensor,
    placement: Placement,
    interleaved: bool,
    attention_factor: float,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize and rotate q and k as they lie in one projection; v is a view of it.

    Arguments are those of `rope_qkv`, already checked.
    """
    q, k, v = split_heads(qkv, n_heads, n_kv_heads)
    turn = _cos_sin(q, phases, placement, attention_factor)
    q = _rotate(normed(q, q_norm, eps), *turn, interleaved, qkv.dtype)
    k = _rotate(normed(k, k_norm, eps), *turn, interleaved, qkv.dtype)
    return q, k, v


def _precision(x: Tensor) -> torch.dtype:
    """What x is computed in, to be rounded once at the end."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def normed(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """RMS norm of every head (arXiv 1910.07467), not yet rounded; without a weight x itself."""
    if weight is None:
        return x
    dtype = _precision(x)
    return F.rms_norm(x.to(dtype), weight.shape, weight.to(dtype), eps)


def _cos_sin(
    q: Tensor, phases: Tensor, placement: Placement, factor: float
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every (token, pair), times the factor, with an axis for the heads."""
    positions, dtype = token_positions(q.shape[1], placement, q.device), _precision(q)
    # 2^64 is one turn, so that int64's wrap-around is the reduction to one turn, and exact.
    turns = (positions[..., None] * phases).unsqueeze(-2)  # (S, 1, P) or (B, S, 1, P)
    if dtype == torch.float64:
        angle = turns.to(dtype) * (2 * math.pi / 2**64)
    else:  # the top 32 bits: an angle to 1.5e-9 rad, in any device's arithmetic
        angle = (turns >> 32).to(dtype) * (2 * math.pi / 2**32)
    if factor == 1.0:
        return angle.cos(), angle.sin()
    return angle.cos() * factor, angle.sin() * factor


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, dtype: torch.dtype) -> Tensor:
    """Rotate the first components of every head in cos's precision, and round to dtype."""
    rotary_dim = 2 * cos.shape[-1]
    rotary, tail = x[..., :rotary_dim], x[..., rotary_dim:]
    rotate = _rotate_interleaved if interleaved else _rotate_half_split
    rotated = rotate(rotary, cos, sin).to(dtype)
    return rotated if tail.shape[-1] == 0 else torch.cat((rotated, tail.to(dtype)), dim=-1)


def _rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1): complex numbers, multiplied by cos + i·sin."""
    pairs = x.unflatten(-1, (-1, 2))  # (B, S, H, P, 2)
    if torch.compiler.is_compiling():  # Inductor fuses real arithmetic only
        a, b = pairs.to(cos.dtype).unbind(-1)
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:  # one pass over memory instead of seven; a complex view wants dense, aligned pairs
        pairs = pairs.to(cos.dtype, memory_format=torch.contiguous_format, copy=True)
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return rotated.flatten(-2)


def _rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + P): the halves of x, each with the other as its partner."""
    x = x.to(cos.dtype)
    partner = x.roll(cos.shape[-1], dims=-1)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return torch.addcmul(x * cos, partner, sin)
