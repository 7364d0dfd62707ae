"""What the tests of the projection share: its tensors, and all that comes out of it.

Shapes: B batch, S sequence, C d_model, H heads of q, H_kv heads of k and v, D head_dim,
N (H + 2 H_kv) D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import inverse_frequencies, rope_phases, rope_qkv

HEADS = (4, 2)
PHASES = rope_phases(inverse_frequencies(64))


def made(
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    heads: tuple[int, int] = HEADS,
    tokens: tuple[int, int] = (2, 5),
    width: int = 12,
    head_dim: int = 8,
) -> tuple[Tensor, Tensor]:
    """x (B, S, C) and weight (N, C) that want gradients."""
    generator = torch.Generator().manual_seed(41)
    x = torch.randn(*tokens, width, generator=generator)
    rows = (heads[0] + 2 * heads[1]) * head_dim
    weight = torch.randn(rows, width, generator=generator) * width**-0.5
    return tuple(t.to(device, dtype).requires_grad_() for t in (x, weight))


def outcome(x: Tensor, weight: Tensor, heads=HEADS, *, apart: bool = False, **options):
    """q, k and v, then the gradients of x and weight; `apart`: F.linear first."""
    if apart:
        outputs = rope_qkv(F.linear(x, weight), *heads, **options)
    else:
        outputs = rope_qkv(x, *heads, **options, weight=weight)
    upstream = [torch.linspace(-1, 1, y.numel()).view_as(y).to(y) for y in outputs]
    return [*outputs, *torch.autograd.grad(outputs, (x, weight), upstream)]


def assert_equal(results: list[Tensor], expected: list[Tensor], exactly: bool = True) -> None:
    for result, right in zip(results, expected, strict=True):
        assert result.dtype == right.dtype
        tolerances = {"rtol": 0, "atol": 0} if exactly else {}
        torch.testing.assert_close(result, right, **tolerances)
