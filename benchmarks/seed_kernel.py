"""The algorithm that this project began from, as a baseline: a program for every head of a token.

Each program walks over its pairs one after the other, and computes a power, a cosine and a sine
for each of them, which every other head of the token computes again. q and k are two launches.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice


@triton.jit
def _rotate_head(x_ptr, out_ptr, seq_len, n_heads, theta, HEAD_DIM: tl.constexpr):
    program = tl.program_id(0)
    position = (program // n_heads) % seq_len
    row = program.to(tl.int64) * HEAD_DIM
    for pair in range(HEAD_DIM // 2):
        exponent = 2.0 * pair / HEAD_DIM
        angle = position.to(tl.float32) / libdevice.pow(theta, exponent)
        cos, sin = tl.cos(angle), tl.sin(angle)
        first = tl.load(x_ptr + row + 2 * pair).to(tl.float32)
        second = tl.load(x_ptr + row + 2 * pair + 1).to(tl.float32)
        tl.store(out_ptr + row + 2 * pair, first * cos - second * sin)
        tl.store(out_ptr + row + 2 * pair + 1, first * sin + second * cos)


def rotate_serially(q: Tensor, k: Tensor, theta: float) -> tuple[Tensor, Tensor]:
    """Rotate contiguous q (B, S, H, D) and k (B, S, H_kv, D) at positions 0 ... S-1."""
    return _rotate(q, theta), _rotate(k, theta)


def _rotate(x: Tensor, theta: float) -> Tensor:
    batch, seq_len, n_heads, head_dim = x.shape
    out = torch.empty_like(x)
    _rotate_head[(batch * seq_len * n_heads,)](x, out, seq_len, n_heads, theta, HEAD_DIM=head_dim)
    return out
