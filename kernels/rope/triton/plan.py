"""Calls of the Triton kernels: what to launch for given tensors, kept from one call to the next.

Everything about a launch but the addresses follows from shapes, strides, dtypes and options. It is
worked out once for each combination and then looked up.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import torch
import triton
from torch import Tensor

from ...launch import Launch
from ..arguments import Norms, Rotation
from .kernel import rotate_kernel
from .norms import norm_backward_kernel, norm_rotate_kernel
from .sizes import (
    ALL,
    MULTIPROCESSORS,
    TOGETHER,
    Head,
    Sine,
    groups_of,
    in_blocks,
    norm_tile,
    rotation_tile,
)

NO_NORMS = Norms()


# A tensor without its address: shape, strides and dtype, in a tuple that is quickly made.
Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
Layouts = tuple[Layout, ...]
Given = tuple[Layout | None, ...]  # of tensors that there may be


def rotate_into(
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    norms: Norms = NO_NORMS,
) -> None:
    """Normalise and rotate q and k, the first two of `inputs`, into `outputs`; copy v, the third.

    All are (B, S, heads, D); v may be missing, and is with norms. An output may be its input;
    otherwise they must not overlap.
    """
    if _rounds_wrong(inputs[0]):
        wide = tuple(x.float() for x in outputs)
        rotate_into(tuple(x.float() for x in inputs), wide, rotation, norms)
        _narrow(wide, outputs)
        return
    launch = rotation_launch(inputs, outputs, rotation, norms)
    if launch is None:
        return
    if norms.exist():
        launch(*inputs, *outputs, norms.q_weight, norms.k_weight, *rotation[:4])
    else:
        v, v_out = (inputs[2], outputs[2]) if len(inputs) > 2 else (None, None)
        launch(*inputs[:2], v, *outputs[:2], v_out, *rotation[:4])


def rotation_launch(
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    norms: Norms = NO_NORMS,
) -> Launch | None:
    """The launch of rotate_kernel or norm_rotate_kernel; None if there is nothing to rotate."""
    return _rotate_launch(
        _layouts(inputs),
        _layouts(outputs),
        inputs[0].device,
        rotation.phases.shape[0],
        _layouts(rotation[1:4]),
        _layouts(norms[:2]),
        *rotation[4:],
        norms.eps,
        inputs[0] is outputs[0],
    )


def rotate_norms_backward(
    inputs: tuple[Tensor, ...],
    grads: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    norms: Norms,
) -> Tensor:
    """Derivative of `rotate_into` with norms: from `grads` of q, k and v, theirs into `outputs`.

    `inputs` are q and k before their norms; `rotation` goes backwards. Returns the gradients of
    the weights, (2, D) in the precision of the computation; a row without a weight has no meaning.
    """
    q = inputs[0]
    if _rounds_wrong(q):
        wide = tuple(x.float() for x in outputs)
        inputs, grads = tuple(x.float() for x in inputs), tuple(x.float() for x in grads)
        dweights = rotate_norms_backward(inputs, grads, wide, rotation, norms)
        _narrow(wide, outputs)
        return dweights
    launch = _norm_launch(
        _layouts(inputs),
        _layouts(grads),
        _layouts(outputs),
        q.device,
        rotation.phases.shape[0],
        _layouts(rotation[1:4]),
        _layouts(norms[:2]),
        rotation.interleaved,
        rotation.attention_factor,
        norms.eps,
    )
    programs = launch.grid[0] if launch is not None else 0
    precision = torch.float64 if q.dtype == torch.float64 else torch.float32
    dweights = torch.empty(programs, 2, q.shape[3], dtype=precision, device=q.device)
    if launch is not None:
        launch(*inputs, *grads, *outputs, *norms[:2], dweights, *rotation[:4])
    return dweights.sum(0)


def _rounds_wrong(q: Tensor) -> bool:
    """The interpreter cuts a float32 off where it should round it to bfloat16."""
    return q.dtype == torch.bfloat16 and q.device.type == "cpu"


def _narrow(wide: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for x, output in zip(wide, outputs, strict=True):
        output.copy_(x)


def _layouts(tensors: Iterable[Tensor | None]) -> Given:
    return tuple([None if x is None else (x.shape, x.stride(), x.dtype) for x in tensors])


@functools.lru_cache(maxsize=4096)
def _rotate_launch(
    inputs: Layouts,
    outputs: Layouts,
    device: torch.device,
    pairs: int,
    placement: Given,
    weights: Given,  # whether there are any, and of what dtype, decides about the kernel
    interleaved: bool,
    factor: float,
    backwards: bool,
    eps: float,
    in_place: bool,
) -> Launch | None:
    (batch, seq_len, _, head_dim), _, dtype = inputs[0]
    counts = tuple(shape[2] for shape, *_ in inputs)
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0 or sum(counts) == 0:
        return None
    head = _head(head_dim, pairs, interleaved)
    if in_place:
        head = head._replace(block_tail=0)  # the tail is where it should be
    norms = weights != (None, None)
    tile = rotation_tile(n_tokens, counts, head, dtype.itemsize, device.type == "cpu", norms)
    heads = in_blocks(counts, tile)
    n_groups, takes = groups_of(tuple(x.blocks for x in heads), tile.takes)
    grid = (triton.cdiv(n_tokens, tile.tokens), n_groups)
    where = (
        *_placement_numbers(placement, batch, seq_len),
        factor,
        -factor if backwards else factor,
    )
    sine = _sine(dtype, device)
    if norms:
        numbers = (*_strides(inputs, 2), *_strides(outputs, 2), *where, eps, *heads, head)
        numbers += (tile.tokens, takes == ALL, seq_len == 1, sine)
        return Launch(norm_rotate_kernel, grid, numbers, device, tile.warps)
    numbers = (
        *_strides(inputs, 3),
        *_strides(outputs, 3),
        *where,
        *heads,
        *[None] * (3 - len(heads)),
    )
    numbers += (head, in_place and tile.replicated(head, heads), tile.tokens)
    numbers += (takes == ALL, takes == TOGETHER, seq_len == 1, sine)
    return Launch(rotate_kernel, grid, numbers, device, tile.warps)


@functools.lru_cache(maxsize=4096)
def _norm_launch(
    inputs: Layouts,
    grads: Layouts,
    outputs: Layouts,
    device: torch.device,
    pairs: int,
    placement: Given,
    weights: Given,
    interleaved: bool,
    factor: float,
    eps: float,
) -> Launch | None:
    (batch, seq_len, _, head_dim), _, dtype = inputs[0]
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0:
        return None
    head = _head(head_dim, pairs, interleaved)
    tile = norm_tile(n_tokens, head, dtype.itemsize, device.type == "cpu")
    n_blocks = triton.cdiv(n_tokens, tile.tokens)
    numbers = (
        *_strides(inputs, 2),
        *_strides(grads, 3),
        *_strides(outputs, 3),
        *_placement_numbers(placement, batch, seq_len),
        n_blocks,
        factor,
        -factor,
        eps,
        *in_blocks(tuple(shape[2] for shape, *_ in grads), tile),
        head,
        tile.tokens,
        _sine(dtype, device),
    )
    grid = (min(n_blocks, 16 * MULTIPROCESSORS), 1)
    return Launch(norm_backward_kernel, grid, numbers, device, tile.warps)


def _count(batch: int, seq_len: int) -> int:
    if batch * seq_len >= 2**31:
        raise ValueError(f"batch · seq_len = {batch * seq_len}: must be less than 2^31 tokens")
    return batch * seq_len


def _head(head_dim: int, pairs: int, interleaved: bool) -> Head:
    tail = triton.next_power_of_2(head_dim - 2 * pairs) if head_dim > 2 * pairs else 0
    return Head(head_dim, 2 * pairs, interleaved, triton.next_power_of_2(pairs), tail)


def _sine(dtype: torch.dtype, device: torch.device) -> Sine:
    """What Triton has for AMD lacks the sine of the GPU's unit."""
    interpreted = device.type == "cpu"
    hardware = dtype.itemsize == 2 and not interpreted and torch.version.hip is None
    return Sine(dtype == torch.float64, hardware, interpreted)


def _strides(layouts: Layouts, count: int) -> tuple[tuple[int, ...] | None, ...]:
    """Strides of so many tensors; None where there is no tensor.

    None for all if all are contiguous: what is known when a kernel is compiled is not computed.
    """
    alike = (torch.empty_strided(*layout[:2], device="meta") for layout in layouts)
    if all(x.is_contiguous() for x in alike):
        return (None,) * count
    return (*(strides for _, strides, _ in layouts), *[None] * (count - len(layouts)))


def _placement_numbers(placement: Given, batch: int, seq_len: int) -> tuple[object, ...]:
    """placement_strides, n_tokens, seq_len, n_boundaries and search_steps of the kernels."""
    positions, offsets, cu_seqlens = placement
    strides: tuple[int, ...] = (0, 0)
    if positions is not None:
        strides = (0, *positions[1])[-2:]
    elif (given := offsets or cu_seqlens) is not None:
        strides = (*given[1], 0)
    boundaries = 0 if cu_seqlens is None else cu_seqlens[0][0]
    return strides, batch * seq_len, seq_len, boundaries, (boundaries - 1).bit_length()
