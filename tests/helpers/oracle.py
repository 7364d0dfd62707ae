"""What the kernel tests share: an oracle that knows nothing of the code under test.

The angle position · inv_freq is formed and reduced in exact arithmetic (mpmath, 320 bits: float64
frequencies times 64-bit positions need 117), its cosine and sine rounded to float64 once, and the
rotation done in float64 by the textbook's formula, component by component.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs.
"""

from __future__ import annotations

import functools

import mpmath
import pytest
import torch
from torch import Tensor

from kernels import rope_pytorch, rope_triton

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ROPES = [rope_triton, rope_pytorch]
MANTISSA_BITS = {torch.bfloat16: 7, torch.float16: 10}
SMALLEST_EXPONENT = {torch.bfloat16: -126, torch.float16: -14}


@functools.lru_cache(maxsize=100_000)
def cos_sin(position: int, inv_freq: float) -> tuple[float, float]:
    """cos and sin of position · inv_freq, each right to the last bit of a float64."""
    with mpmath.workprec(320):
        angle = mpmath.mpf(position) * mpmath.mpf(inv_freq)
        return float(mpmath.cos(angle)), float(mpmath.sin(angle))


def pair_columns(pairs: int, interleaved: bool) -> tuple[list[int], list[int]]:
    """The columns of every pair's first and second member."""
    if interleaved:
        return list(range(0, 2 * pairs, 2)), list(range(1, 2 * pairs, 2))
    return list(range(pairs)), list(range(pairs, 2 * pairs))


def rotated(
    x: Tensor,  # (B, S, H, D)
    positions: list[int] | list[list[int]],
    inv_freq: list[float],
    interleaved: bool = True,
    factor: float = 1.0,
) -> Tensor:
    """What x becomes, in float64 on the CPU."""
    if not isinstance(positions[0], list):
        positions = [positions] * x.shape[0]
    table = [[[cos_sin(m, f) for f in inv_freq] for m in row] for row in positions]
    table = torch.tensor(table, dtype=torch.float64)[:, :, None] * factor  # (B, S, 1, P, 2)
    cos, sin = table.unbind(-1)
    first, second = pair_columns(len(inv_freq), interleaved)
    x = x.detach().cpu().double()
    y = x.clone()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., first] * sin + x[..., second] * cos
    return y


def pair_norms(y: Tensor, pairs: int, interleaved: bool) -> Tensor:
    """For every component the norm of the pair that it belongs to; 0 for the unrotated."""
    first, second = pair_columns(pairs, interleaved)
    norms = torch.zeros_like(y)
    norms[..., first] = norms[..., second] = torch.hypot(y[..., first], y[..., second])
    return norms


def assert_rotated(
    y: Tensor,
    x: Tensor,
    positions: list[int] | list[list[int]],
    inv_freq: list[float],
    interleaved: bool = True,
    factor: float = 1.0,
) -> None:
    """Hold y, the rotation of x, to the accuracy that its dtype promises."""
    assert y.shape == x.shape and y.dtype == x.dtype and y.device == x.device
    exact = rotated(x, positions, inv_freq, interleaved, factor)
    norms = pair_norms(exact, len(inv_freq), interleaved)
    error = (y.detach().cpu().double() - exact).abs()
    assert torch.isfinite(error).all()
    if x.dtype == torch.float64:  # half a unit of the phase for each position, and 1e-15
        rows = positions if isinstance(positions[0], list) else [positions]
        turns = torch.tensor(rows, dtype=torch.float64).abs()[:, :, None, None] * 2.0**-65
        assert (error <= (turns * 2 * torch.pi + 1e-15) * norms).all()
    elif x.dtype == torch.float32:
        assert error.norm() <= 3e-7 * exact.norm()
        assert (error <= 1e-6 * norms).all()
    else:
        exponent = torch.frexp(exact).exponent - 1
        exponent = exponent.clamp(min=SMALLEST_EXPONENT[x.dtype])
        unit = torch.ldexp(torch.ones_like(exact), exponent - MANTISSA_BITS[x.dtype])
        assert (error <= unit + 1e-6 * norms).all()
    tail = slice(2 * len(inv_freq), None)
    assert torch.equal(y[..., tail], x[..., tail])
