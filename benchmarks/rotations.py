"""Ways to rotate q and k: ours, and what others do.

Each is a function that prepares the rotation for a shape (tables, phases, positions), so that the
time that is taken is that of the rotation alone.

Shapes: B batch, S sequence, H heads, D head_dim, R rotary_dim, P = R / 2 pairs.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.shapes import THETA, Shape
from kernels import inverse_frequencies, rope_phases, rope_triton_

Rotate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Prepare = Callable[[Shape, torch.device], Rotate]


class _Copy(torch.autograd.Function):
    """q and k copied, and in the backward pass their gradients: the bytes of a rotation."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(q).copy_(q), torch.empty_like(k).copy_(k)

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(grad_q).copy_(grad_q), torch.empty_like(grad_k).copy_(grad_k)


def copy(shape: Shape, device: torch.device) -> Rotate:
    """A copy of q and one of k."""
    return _Copy.apply


def ours(rope: Callable, *, interleaved: bool) -> Prepare:
    """One of this project's backends, with its phases at hand as a model has them."""

    def prepare(shape: Shape, device: torch.device) -> Rotate:
        phases = rope_phases(inverse_frequencies(shape.rotated, THETA)).to(device)
        positions = shape.positions(device)

        def rotate(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
            return rope(q, k, positions=positions, phases=phases, interleaved=interleaved)

        return rotate

    return prepare


class _NonLeaf(torch.autograd.Function):
    """q and k as if an operation had made them, to be overwritten: leaves must not be."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        return q.detach(), k.detach()

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor, Tensor]:
        return grad_q, grad_k


def ours_in_place(shape: Shape, device: torch.device) -> Rotate:
    """In the half-split pairing, over the tensors and over their gradients, as Liger does."""
    rope = partial(rope_triton_, overwrite_gradients=True)
    rotate = ours(rope, interleaved=False)(shape, device)
    return lambda q, k: rotate(*(_NonLeaf.apply(q, k) if q.requires_grad else (q, k)))


def cos_sin_tables(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines (1, S, R) or (B, 1, R) in the shape's dtype, as Llama's users make them.

    Angles are float32 products; each half of R holds the P pairs.
    """
    exponents = torch.arange(0, shape.rotated, 2, device=device).float() / shape.rotated
    positions = shape.positions(device)
    if positions is None:
        positions = torch.arange(shape.seq_len, device=device)[None]
    angles = positions[..., None].float() * THETA**-exponents
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(shape.dtype), angles.sin().to(shape.dtype)


def table(shape: Shape, device: torch.device) -> Rotate:
    """x · cos + rotate_half(x) · sin, in the tensors' own dtype."""
    cos, sin = (table[:, :, None] for table in cos_sin_tables(shape, device))  # (., S, 1, R)

    def rotate_one(x: Tensor) -> Tensor:
        rotary, tail = x[..., : shape.rotated], x[..., shape.rotated :]
        first, second = rotary.chunk(2, dim=-1)
        y = rotary * cos + torch.cat((-second, first), dim=-1) * sin
        return torch.cat((y, tail), dim=-1) if shape.rotary_dim else y

    return lambda q, k: (rotate_one(q), rotate_one(k))


def liger(shape: Shape, device: torch.device) -> Rotate:
    """Liger's kernel, over q and k."""
    from liger_kernel.ops.rope import LigerRopeFunction

    cos, sin = cos_sin_tables(shape, device)
    if shape.rotary_dim is None:
        return lambda q, k: LigerRopeFunction.apply(q, k, cos, sin)
    # Releases that rotate whole heads only know no such argument, and say so.
    return lambda q, k: LigerRopeFunction.apply(q, k, cos, sin, None, 1, shape.rotary_dim)


def seed(shape: Shape, device: torch.device) -> Rotate:
    """The kernel that this project began from."""
    from benchmarks.seed_kernel import rotate_serially

    return lambda q, k: rotate_serially(q, k, THETA)


def compiled(prepare: Prepare) -> Prepare:
    """The same through torch.compile."""

    def prepare_compiled(shape: Shape, device: torch.device) -> Rotate:
        return torch.compile(prepare(shape, device), fullgraph=True, dynamic=False)

    return prepare_compiled
