"""The rotation by exact angles, in Python's integers: what every peer's result is checked against.

It shares nothing with the kernels' phases: a fraction of a turn has 120 bits here.

Shapes: N tokens, H heads, D head_dim, P rotated pairs.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

TWO_PI = Fraction("6.283185307179586476925286766559005768394338798750211641949889")
_TURN = 1 << 120


def exact_cos_sin(positions: Sequence[int], inv_freq: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position · inv_freq, float64 (N, P), right to their last bits.

    `inv_freq` in radians per position, taken as exact; positions of any sign up to 2^60.
    """
    phases = [round(Fraction(f) / TWO_PI * _TURN) for f in inv_freq]
    half = _TURN // 2
    turns = [[(m * phase + half) % _TURN - half for phase in phases] for m in positions]
    angles = np.array([[turn / _TURN for turn in row] for row in turns]) * (2 * np.pi)
    return torch.from_numpy(np.cos(angles)), torch.from_numpy(np.sin(angles))


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Rotate x (N, H, D) by cos and sin (N, P) in x's dtype; components past 2P stay."""
    cos, sin = cos[:, None], sin[:, None]
    pairs = cos.shape[-1]
    rotary, tail = x[..., : 2 * pairs], x[..., 2 * pairs :]
    shape, axis = ((pairs, 2), -1) if interleaved else ((2, pairs), -2)
    first, second = rotary.unflatten(-1, shape).unbind(axis)
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), axis)
    return torch.cat((rotated.flatten(-2), tail), dim=-1)


def relative_errors(y: Tensor, exact: Tensor) -> Tensor:
    """‖y - exact‖ / ‖exact‖ of every head: (N, H, D) -> (N, H), float64."""
    return (y.cpu().double() - exact).norm(dim=-1) / exact.norm(dim=-1)
