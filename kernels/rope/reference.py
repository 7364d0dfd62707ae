"""RoPE in plain PyTorch: what the Triton kernel computes, written to be read.

Each pair (x, y) of a head's components is turned by an angle that grows with the position:

    x' = x·cos - y·sin        y' = x·sin + y·cos        angle = position · inv_freq[pair]

From the rotation of one pair at the top, the file goes up to the functions that are called.

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim, P = R / 2 pairs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import KERNEL_DEVICES, Norms, Placement, Rotation, checked_rotation, split_heads


def rotate_interleaved(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (2i, 2i + 1) of heads (B, S, H, R), as RoFormer and GPT-J do.

    Not every other device has complex numbers.
    """
    pairs = heads.unflatten(-1, (-1, 2))  # (B, S, H, P, 2)
    if not torch.compiler.is_compiling() and pairs.device.type in KERNEL_DEVICES:
        return _multiply_complex(pairs, cos, sin).flatten(-2)
    x, y = pairs.to(cos.dtype).unbind(-1)
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1).flatten(-2)


def _multiply_complex(pairs: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same, of (x + iy)(cos + i·sin): in eager mode one pass over memory instead of seven."""
    # A complex view wants dense, aligned pairs.
    pairs = pairs.to(cos.dtype, memory_format=torch.contiguous_format, copy=True)
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))


def rotate_half_split(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + P) of heads (B, S, H, R), as Llama and GPT-NeoX do."""
    heads = heads.to(cos.dtype)
    partners = heads.roll(cos.shape[-1], dims=-1)  # the other half of each
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return torch.addcmul(heads * cos, partners, sin)


def rotate_heads(
    x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, dtype: torch.dtype
) -> Tensor:
    """Rotate the first R components of every head in cos's precision, and round to dtype."""
    rotary_dim = 2 * cos.shape[-1]
    rotary, tail = x[..., :rotary_dim], x[..., rotary_dim:]
    rotate_pairs = rotate_interleaved if interleaved else rotate_half_split
    rotated = rotate_pairs(rotary, cos, sin).to(dtype)
    return rotated if tail.shape[-1] == 0 else torch.cat((rotated, tail.to(dtype)), dim=-1)


def cos_sin(q: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every token's angles, times the factor: (S, 1, P) or (B, S, 1, P)."""
    positions = token_positions(q.shape[1], rotation.placement, q.device)
    dtype, factor = precision_of(q), rotation.attention_factor
    # 2^64 is one turn, so that int64's wrap-around is the reduction to one turn, and exact.
    turns = (positions[..., None] * rotation.phases).unsqueeze(-2)  # an axis for the heads
    if dtype == torch.float64:
        angle = turns.to(dtype) * (2 * math.pi / 2**64)
    else:  # the top 32 bits: an angle to 1.5e-9 rad, in any device's arithmetic
        angle = (turns >> 32).to(dtype) * (2 * math.pi / 2**32)
    if factor == 1.0:
        return angle.cos(), angle.sin()
    return angle.cos() * factor, angle.sin() * factor


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


def precision_of(x: Tensor) -> torch.dtype:
    """What x is computed in, to be rounded once at the end."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def normed(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """RMS norm of every head (arXiv 1910.07467), not yet rounded; without a weight x itself."""
    if weight is None:
        return x
    dtype = precision_of(x)
    return F.rms_norm(x.to(dtype), weight.shape, weight.to(dtype), eps)


def normed_backward(
    g: Tensor, x: Tensor, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor | None]:
    """Gradients of x and weight (D,), for y = x / rms(x) · weight and the gradient g of y."""
    if weight is None:
        return g, None
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    unit, product = x * scale, g * weight.to(g.dtype)
    dx = (product - unit * (unit * product).mean(-1, keepdim=True)) * scale
    return dx, (g * unit).sum((0, 1, 2)).to(weight.dtype)


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
    rotation = checked_rotation(
        q, k, seq_len, theta, placement, inv_freq, phases, interleaved, attention_factor
    )
    cos, sin = cos_sin(q, rotation)
    q_rotated = rotate_heads(q, cos, sin, interleaved, q.dtype)
    return q_rotated, rotate_heads(k, cos, sin, interleaved, k.dtype)


def packed_pytorch(
    qkv: Tensor,  # (B, S, (H + 2 H_kv) D)
    n_heads: int,
    n_kv_heads: int,
    rotation: Rotation,
    norms: Norms,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize and rotate q and k as they lie in one projection; v is a view of it.

    Arguments are those of `rope_qkv`, already checked.
    """
    q, k, v = split_heads(qkv, n_heads, n_kv_heads)
    cos, sin = cos_sin(q, rotation)
    how = (cos, sin, rotation.interleaved, qkv.dtype)
    q = rotate_heads(normed(q, norms.q_weight, norms.eps), *how)
    k = rotate_heads(normed(k, norms.k_weight, norms.eps), *how)
    return q, k, v
