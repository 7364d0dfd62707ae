"""Calls of the Triton kernels: what to launch for given tensors, kept from one call to the next.

Everything about a launch but the addresses follows from shapes, strides, dtypes and options. It is
worked out once for each combination and then looked up.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from kernels.launch import Launch
from kernels.rope.arguments import Placement
from kernels.rope.triton.kernel import norm_backward_kernel, rotate_kernel
from kernels.rope.triton.sizes import (
    MULTIPROCESSORS,
    groups_of,
    head_blocks,
    norm_tile,
    rotation_tile,
)


class Rotation(NamedTuple):
    """What is the same for q and k."""

    phases: Tensor  # int64 (P,)
    placement: Placement
    interleaved: bool
    factor: float  # of cosine and sine
    backwards: bool  # turn by the negative angles: the derivative of the rotation


class Norm(NamedTuple):
    """RMS norms of the heads of q and k before their rotation: weights (D,), or None."""

    q_weight: Tensor | None = None
    k_weight: Tensor | None = None
    eps: float = 0.0


NO_NORM = Norm()


def rotate(q: Tensor, k: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
    """q and k (B, S, H, D) rotated into new tensors laid out like them."""
    outputs = torch.empty_like(q), torch.empty_like(k)
    rotate_into((q, k), outputs, rotation)
    return outputs


def rotate_into(
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    norm: Norm = NO_NORM,
) -> None:
    """Normalise and rotate the first two of `inputs` into `outputs`, and copy the third if any.

    All are (B, S, heads, D). An output may be its input; otherwise they must not overlap.
    """
    if _rounds_wrong(inputs[0]):
        wide = tuple(x.float() for x in outputs)
        rotate_into(tuple(x.float() for x in inputs), wide, rotation, norm)
        _narrow(wide, outputs)
        return
    launch = rotate_launch(inputs, outputs, rotation, norm)
    if launch is not None:
        v, v_out = (inputs[2], outputs[2]) if len(inputs) > 2 else (None, None)
        tensors = (*inputs[:2], v, *outputs[:2], v_out, norm.q_weight, norm.k_weight)
        launch(*tensors, rotation.phases, *rotation.placement)


def rotate_launch(
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    norm: Norm = NO_NORM,
) -> Launch | None:
    """The launch of rotate_kernel; None if there is nothing to rotate."""
    return _rotate_launch(
        _layouts(inputs),
        _layouts(outputs),
        inputs[0].device,
        rotation.phases.shape[0],
        _layouts(rotation.placement),
        _layouts(norm[:2]),
        *rotation[2:],
        norm.eps,
        inputs[0] is outputs[0],
    )


def rotate_norms_backward(
    inputs: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor, Tensor],
    rotation: Rotation,
    norm: Norm,
) -> Tensor:
    """Derivative of `rotate_into` with norms: from `grads` of q, k and v, theirs into `outputs`.

    `inputs` are q and k before their norms; `rotation` goes backwards. Returns the gradients of
    the weights, (2, D) in the precision of the computation; a row without a weight has no meaning.
    """
    q = inputs[0]
    if _rounds_wrong(q):
        wide = [tuple(x.float() for x in tensors) for tensors in (inputs, grads, outputs)]
        dweights = rotate_norms_backward(*wide, rotation, norm)
        _narrow(wide[2], outputs)
        return dweights
    launch = _norm_launch(
        _layouts(inputs),
        _layouts(grads),
        _layouts(outputs),
        q.device,
        rotation.phases.shape[0],
        _layouts(rotation.placement),
        _layouts(norm[:2]),
        rotation.interleaved,
        rotation.factor,
        norm.eps,
    )
    programs = launch.grid[0] if launch is not None else 0
    precision = torch.float64 if q.dtype == torch.float64 else torch.float32
    dweights = torch.empty(programs, 2, q.shape[3], dtype=precision, device=q.device)
    if launch is not None:
        tensors = (*inputs, *grads, *outputs, *norm[:2], dweights, rotation.phases)
        launch(*tensors, *rotation.placement)
    return dweights.sum(0)


def _rounds_wrong(q: Tensor) -> bool:
    """The interpreter cuts a float32 off where it should round it to bfloat16."""
    return q.dtype == torch.bfloat16 and q.device.type == "cpu"


def _narrow(wide: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for x, output in zip(wide, outputs, strict=True):
        output.copy_(x)


def _layouts(tensors: Iterable[Tensor | None]) -> tuple[object, ...]:
    return tuple([None if x is None else (x.shape, x.stride(), x.dtype) for x in tensors])


@functools.lru_cache(maxsize=4096)
def _rotate_launch(
    inputs,
    outputs,
    device,
    pairs,
    placement,
    weights,  # whether there are any, and of what dtype, decides about the kernel
    interleaved,
    factor,
    backwards,
    eps,
    in_place,
) -> Launch | None:
    (batch, seq_len, _, head_dim), _, dtype = inputs[0]
    heads = tuple(shape[2] for shape, *_ in inputs)
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0 or sum(heads) == 0:
        return None
    head = _head(head_dim, pairs, interleaved)
    if in_place:
        head = (*head[:4], 0)  # the tail is where it should be
    norms = weights != (None, None)
    tile = rotation_tile(n_tokens, heads, head, dtype.itemsize, device.type == "cpu", norms)
    blocks = head_blocks(heads, tile)
    shares = tuple(triton.cdiv(n, block) for n, block in zip(heads, blocks, strict=True))
    n_groups, takes = groups_of(shares, tile.takes)
    numbers = (
        _strides(inputs),
        _strides(outputs),
        *_placement_numbers(placement, batch, seq_len),
        factor,
        -factor if backwards else factor,
        eps,
        heads,
        head,
        in_place and tile.replicated(head, blocks),
        tile.tokens,
        blocks,
        shares,
        takes,
        seq_len == 1,
        _sines(dtype, device),
    )
    grid = (triton.cdiv(n_tokens, tile.tokens), n_groups)
    return Launch(rotate_kernel, grid, numbers, device, tile.warps)


def _sines(dtype: torch.dtype, device: torch.device) -> tuple[bool, bool, bool]:
    """SINES of the kernels (`cos_sin`); what Triton has for AMD lacks those of the GPU's unit."""
    interpreted = device.type == "cpu"
    hardware = dtype.itemsize == 2 and not interpreted and torch.version.hip is None
    return dtype == torch.float64, hardware, interpreted


@functools.lru_cache(maxsize=4096)
def _norm_launch(
    inputs, grads, outputs, device, pairs, placement, weights, interleaved, factor, eps
) -> Launch | None:
    (batch, seq_len, _, head_dim), _, dtype = inputs[0]
    heads = tuple(shape[2] for shape, *_ in grads)
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0:
        return None
    head = _head(head_dim, pairs, interleaved)
    tile = norm_tile(n_tokens, head, dtype.itemsize, device.type == "cpu")
    blocks = head_blocks(heads, tile)
    n_blocks = triton.cdiv(n_tokens, tile.tokens)
    numbers = (
        _strides(inputs),
        _strides(grads),
        _strides(outputs),
        *_placement_numbers(placement, batch, seq_len),
        n_blocks,
        factor,
        -factor,
        eps,
        heads,
        head,
        tile.tokens,
        blocks,
        tuple(triton.cdiv(n, b) for n, b in zip(heads, blocks, strict=True)),
        _sines(dtype, device),
    )
    grid = (min(n_blocks, 16 * MULTIPROCESSORS), 1)
    return Launch(norm_backward_kernel, grid, numbers, device, tile.warps)


def _count(batch: int, seq_len: int) -> int:
    if batch * seq_len >= 2**31:
        raise ValueError(f"batch · seq_len = {batch * seq_len}: must be less than 2^31 tokens")
    return batch * seq_len


def _head(head_dim: int, pairs: int, interleaved: bool) -> tuple[int, int, bool, int, int]:
    """HEAD of the kernels: see load_head."""
    tail = triton.next_power_of_2(head_dim - 2 * pairs) if head_dim > 2 * pairs else 0
    return head_dim, 2 * pairs, interleaved, triton.next_power_of_2(pairs), tail


def _strides(layouts: tuple[object, ...]) -> tuple[tuple[int, ...], ...] | None:
    """None if all are contiguous: what is known when a kernel is compiled is not computed."""
    alike = (torch.empty_strided(*layout[:2], device="meta") for layout in layouts)
    if all(x.is_contiguous() for x in alike):
        return None
    return tuple(strides for _, strides, _ in layouts)


def _placement_numbers(placement, batch: int, seq_len: int) -> tuple[object, ...]:
    positions, offsets, cu_seqlens = placement
    strides = (0, 0)
    if positions is not None:
        strides = (0, *positions[1])[-2:]
    elif offsets is not None or cu_seqlens is not None:
        strides = (*(offsets or cu_seqlens)[1], 0)
    boundaries = 0 if cu_seqlens is None else cu_seqlens[0][0]
    return strides, batch * seq_len, seq_len, boundaries, (boundaries - 1).bit_length()
