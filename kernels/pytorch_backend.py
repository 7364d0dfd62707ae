"""RoPE in plain PyTorch: what the Triton kernel computes, written to be read.

Each pair (x, y) of a head's components is turned by an angle that grows with the position:

    x' = x·cos - y·sin        y' = x·sin + y·cos        angle = position · inv_freq[pair]

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim, P = R / 2 pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.rotation import checked_phases


def rope_pytorch(
    q: Tensor,  # (B, S, H, D)
    k: Tensor,  # (B, S, H_kv, D)
    seq_len: int | None = None,
    theta: float = 10000.0,
    *,
    positions: Tensor | None = None,
    inv_freq: Tensor | None = None,
    phases: Tensor | None = None,
    interleaved: bool = True,
    attention_factor: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Rotate q and k by their positions. Arguments, results and errors: see `rope_triton`."""
    phases = checked_phases(q, k, seq_len, theta, positions, inv_freq, phases, attention_factor)
    if positions is None:
        positions = torch.arange(q.shape[1], device=q.device)
    cos, sin = _cos_sin(positions, phases, double=q.dtype == torch.float64)
    if attention_factor != 1.0:
        cos, sin = cos * attention_factor, sin * attention_factor
    rotate = _rotate_interleaved if interleaved else _rotate_half_split
    return rotate(q, cos, sin), rotate(k, cos, sin)


def _cos_sin(positions: Tensor, phases: Tensor, double: bool) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every (position, pair), with a broadcast axis for the heads."""
    # 2^64 is one turn, so that int64's wrap-around is the reduction to one turn, and exact.
    turns = (positions[..., None] * phases).unsqueeze(-2)  # (S, 1, P) or (B, S, 1, P)
    if double:
        angle = turns.to(torch.float64) * (2 * math.pi / 2**64)
    else:  # the top 32 bits: an angle to 1.5e-9 rad, in any device's arithmetic
        angle = (turns >> 32).to(torch.float32) * (2 * math.pi / 2**32)
    return angle.cos(), angle.sin()


def _rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1): complex numbers, multiplied by cos + i·sin."""
    rotary, tail = _split_rotary(x, cos)
    pairs = rotary.unflatten(-1, (-1, 2))  # (B, S, H, P, 2)
    if torch.compiler.is_compiling():  # Inductor fuses real arithmetic only
        a, b = pairs.to(cos.dtype).unbind(-1)
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)
    else:  # one pass over memory instead of seven; a complex view wants dense, aligned pairs
        pairs = pairs.to(cos.dtype, memory_format=torch.contiguous_format, copy=True)
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return _join(rotated.flatten(-2).to(x.dtype), tail)


def _rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + P): the halves of x, each with the other as its partner."""
    rotary, tail = _split_rotary(x, cos)
    rotary = rotary.to(cos.dtype)
    partner = rotary.roll(cos.shape[-1], dims=-1)
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return _join(torch.addcmul(rotary * cos, partner, sin).to(x.dtype), tail)


def _split_rotary(x: Tensor, cos: Tensor) -> tuple[Tensor, Tensor | None]:
    """The components to rotate, and those that pass through."""
    rotary_dim = 2 * cos.shape[-1]
    if rotary_dim == x.shape[-1]:
        return x, None
    return x[..., :rotary_dim], x[..., rotary_dim:]


def _join(rotated: Tensor, tail: Tensor | None) -> Tensor:
    return rotated if tail is None else torch.cat((rotated, tail), dim=-1)
