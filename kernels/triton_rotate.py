"""Calls of the Triton kernels: what to launch for given tensors, kept from one call to the next.

Everything about a launch but the addresses follows from shapes, strides, dtypes and options. It is
worked out once for each combination and then looked up, which is most of what a call costs the
host.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from kernels.arguments import Placement
from kernels.triton_kernels import norm_backward_kernel, rotate_kernel
from kernels.triton_launch import Launch

MAX_TILE = 2**20  # elements: Triton's own limit, which only the interpreter can reach
MULTIPROCESSORS = 132  # of an H100 or H200: what tiles were measured on


class Rotation(NamedTuple):
    """What is the same for q and k, forward and backward."""

    phases: Tensor  # int64 (P,)
    placement: Placement
    interleaved: bool
    factor: float  # of cosine and sine


class Norm(NamedTuple):
    """RMS norms of the heads of q and k before their rotation: weights (D,), or None."""

    q_weight: Tensor | None = None
    k_weight: Tensor | None = None
    eps: float = 0.0


NO_NORM = Norm()


def rotate(q: Tensor, k: Tensor, rotation: Rotation, backwards: bool) -> tuple[Tensor, Tensor]:
    """q and k (B, S, H, D) rotated into new tensors laid out like them.

    `backwards` turns by the negative angles: the derivative of the rotation.
    """
    outputs = torch.empty_like(q), torch.empty_like(k)
    rotate_into((q, k), outputs, rotation, backwards)
    return outputs


def rotate_into(
    inputs: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    rotation: Rotation,
    backwards: bool = False,
    norm: Norm = NO_NORM,
) -> None:
    """Normalise and rotate the first two of `inputs` into `outputs`, and copy the third if any.

    All are (B, S, heads, D). An output may be its input; otherwise they must not overlap.
    """
    q = inputs[0]
    if _rounds_wrong(q):
        wide = tuple(x.float() for x in outputs)
        rotate_into(tuple(x.float() for x in inputs), wide, rotation, backwards, norm)
        return _narrow(wide, outputs)
    phases, placement, interleaved, factor = rotation
    launch = _rotate_launch(
        _layouts(inputs),
        _layouts(outputs),
        q.dtype,
        q.device,
        phases.shape[0],
        _layouts(placement),
        interleaved,
        factor,
        backwards,
        norm.eps,
        inputs[0] is outputs[0],
    )
    if launch is not None:
        v = inputs[2] if len(inputs) > 2 else None
        v_out = outputs[2] if v is not None else None
        tensors = (*inputs[:2], v, *outputs[:2], v_out, norm.q_weight, norm.k_weight)
        launch(*tensors, phases, *_contiguous(placement))


def rotate_norms_backward(
    inputs: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor, Tensor],
    rotation: Rotation,
    norm: Norm,
) -> Tensor:
    """Derivative of `rotate_into` with norms: from `grads` of q, k and v, theirs into `outputs`.

    `inputs` are q and k before their norms. Returns the gradients of the weights, (2, D) in the
    precision of the computation; a row without a weight has no meaning.
    """
    q = inputs[0]
    if _rounds_wrong(q):
        wide = [tuple(x.float() for x in tensors) for tensors in (inputs, grads, outputs)]
        dweights = rotate_norms_backward(*wide, rotation, norm)
        _narrow(wide[2], outputs)
        return dweights
    phases, placement, interleaved, factor = rotation
    launch, programs = _norm_launch(
        _layouts(inputs),
        _layouts(grads),
        _layouts(outputs),
        q.dtype,
        q.device,
        phases.shape[0],
        _layouts(placement),
        interleaved,
        factor,
        norm.eps,
    )
    precision = torch.float64 if q.dtype == torch.float64 else torch.float32
    dweights = torch.empty(programs, 2, q.shape[3], dtype=precision, device=q.device)
    if launch is not None:
        weights = (norm.q_weight, norm.k_weight)
        tensors = (*inputs, *grads, *outputs, *weights, dweights)
        launch(*tensors, phases, *_contiguous(placement))
    return dweights.sum(0)


def _rounds_wrong(q: Tensor) -> bool:
    """The interpreter cuts a float32 off where it should round it to bfloat16."""
    return q.dtype == torch.bfloat16 and q.device.type == "cpu"


def _narrow(wide: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for x, output in zip(wide, outputs, strict=True):
        output.copy_(x)


def _layouts(tensors: Iterable[Tensor | None]) -> tuple[object, ...]:
    return tuple([None if x is None else (x.shape, x.stride()) for x in tensors])


def _contiguous(placement: Placement) -> tuple[Tensor | None, ...]:
    """Positions are read by their strides, what there is only a few of is not."""
    positions, offsets, cu_seqlens = placement
    return (
        positions,
        None if offsets is None else offsets.contiguous(),
        None if cu_seqlens is None else cu_seqlens.contiguous(),
    )


class _Tile(NamedTuple):
    tokens: int
    heads: int  # of a block
    groups: int  # of heads, each a program's
    warps: int


@functools.lru_cache(maxsize=4096)
def _rotate_launch(
    inputs, outputs, dtype, device, pairs, placement, interleaved, factor, backwards, eps, in_place
) -> Launch | None:
    """The launch of rotate_kernel; None if there is nothing to rotate."""
    (batch, seq_len, _, head_dim), _ = inputs[0]
    heads = tuple(shape[2] for shape, _ in inputs)
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0 or sum(heads) == 0:
        return None
    head = _head(head_dim, pairs, interleaved)
    if in_place:
        head = (*head[:4], 0)  # the tail is where it should be
    tile = _tile(n_tokens, heads, head, dtype.itemsize, device.type == "cpu")
    shares = tuple(triton.cdiv(triton.cdiv(n, tile.heads), tile.groups) for n in heads)
    numbers = (
        _strides(inputs),
        _strides(outputs),
        *_placement_numbers(placement, batch, seq_len),
        factor,
        -factor if backwards else factor,
        eps,
        heads,
        head,
        in_place,
        tile.tokens,
        tile.heads,
        shares,
        dtype == torch.float64,
        device.type == "cpu",
    )
    grid = (triton.cdiv(n_tokens, tile.tokens), tile.groups)
    return Launch(rotate_kernel, grid, numbers, device, tile.warps)


@functools.lru_cache(maxsize=4096)
def _norm_launch(
    inputs, grads, outputs, dtype, device, pairs, placement, interleaved, factor, eps
) -> tuple[Launch | None, int]:
    """The launch of norm_backward_kernel and its number of programs; None with nothing to do."""
    (batch, seq_len, _, head_dim), _ = inputs[0]
    heads = tuple(shape[2] for shape, _ in grads)
    n_tokens = _count(batch, seq_len)
    if n_tokens == 0:
        return None, 0
    head = _head(head_dim, pairs, interleaved)
    tile = _tile(n_tokens, heads, head, dtype.itemsize, device.type == "cpu", backward=True)
    n_blocks = triton.cdiv(n_tokens, tile.tokens)
    programs = min(n_blocks, 8 * MULTIPROCESSORS)
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
        tile.heads,
        tuple(triton.cdiv(n, tile.heads) for n in heads),
        dtype == torch.float64,
        device.type == "cpu",
    )
    return Launch(norm_backward_kernel, (programs, 1), numbers, device, tile.warps), programs


def _count(batch: int, seq_len: int) -> int:
    if batch * seq_len >= 2**31:
        raise ValueError(f"batch · seq_len = {batch * seq_len}: must be less than 2^31 tokens")
    return batch * seq_len


def _head(head_dim: int, pairs: int, interleaved: bool) -> tuple[int, int, bool, int, int]:
    """HEAD of the kernels: see load_head."""
    tail = triton.next_power_of_2(head_dim - 2 * pairs) if head_dim > 2 * pairs else 0
    return head_dim, 2 * pairs, interleaved, triton.next_power_of_2(pairs), tail


def _strides(layouts: tuple[object, ...]) -> tuple[tuple[int, ...], ...]:
    """The strides of three tensors; the third may be missing, and is then not looked at."""
    strides = [stride for _, stride in layouts]
    return (*strides, strides[0])[:3]


def _placement_numbers(placement, batch: int, seq_len: int) -> tuple[object, ...]:
    positions, _, cu_seqlens = placement
    strides = (0, 0) if positions is None else (0, *positions[1])[-2:]
    boundaries = 0 if cu_seqlens is None else cu_seqlens[0][0]
    return strides, batch * seq_len, seq_len, boundaries, (boundaries - 1).bit_length()


def _tile(
    n_tokens: int,
    heads: tuple[int, ...],
    head: tuple[int, int, bool, int, int],
    itemsize: int,
    cpu: bool,
    backward: bool = False,
) -> _Tile:
    """Tile sizes: many small ones for a GPU, one or few huge ones for the interpreter."""
    most_heads = max(heads)
    width = max(2 * head[3], head[4])
    if cpu:  # a program costs about 5 ms, an element 0.1 µs
        tokens = min(triton.next_power_of_2(n_tokens), max(MAX_TILE // width, 1))
        return _Tile(tokens, 1, 1, 1)
    tokens = min(8, triton.next_power_of_2(n_tokens))
    return _Tile(tokens, min(4, triton.next_power_of_2(most_heads)), 1, 4)
