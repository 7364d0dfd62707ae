"""The rotation as a Triton kernel, and its launch: the one module that imports triton.

`rotate_tiles` is a plain function. `triton.jit` compiles it for CUDA tensors; Triton's
interpreter runs the very same function on CPU tensors. What the interpreter cannot do (call
libdevice) stands behind INTERPRETED.

Shapes: T tokens of a tile (B·S flattened), H heads of a tile, P pairs of a head.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import functools
import logging
import math
import types

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice
from triton.runtime.interpreter import InterpretedFunction

RADIANS_PER_TURN_32 = tl.constexpr(2 * math.pi / 2**32)
RADIANS_PER_TURN_64 = tl.constexpr(2 * math.pi / 2**64)

NUM_WARPS = 4
MAX_TILE = 2**20  # elements: Triton's own limit, which only the interpreter can reach


@triton.jit
def _cos_sin(
    position,
    phases_ptr,
    PAIRS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    DOUBLE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Cosine and sine (T, 1, P) of position (T,) times every phase, which wraps at one turn."""
    pair = tl.arange(0, BLOCK_PAIRS)
    phase = tl.load(phases_ptr + pair, mask=pair < PAIRS, other=0)
    turn = (position[:, None] * phase[None, :])[:, None, :]
    if DOUBLE:
        angle = turn.to(tl.float64) * RADIANS_PER_TURN_64
    else:  # the top 32 bits
        angle = (turn >> 32).to(tl.int32).to(tl.float32) * RADIANS_PER_TURN_32
    if INTERPRETED:
        cos, sin = tl.cos(angle), tl.sin(angle)
    else:
        cos, sin = libdevice.cos(angle), libdevice.sin(angle)
    return cos, sin


@triton.jit
def _load_pairs(
    x, stride, mask, PAIRS: tl.constexpr, BLOCK_PAIRS: tl.constexpr, INTERLEAVED: tl.constexpr
):
    """First and second members (T, H, P) of the pairs in the rows at x (T, H, 1).

    Interleaved rows are read in whole, then split: memory sees one stream, and a thread still
    holds both members of its pairs.
    """
    if INTERLEAVED:
        column = tl.arange(0, 2 * BLOCK_PAIRS)[None, None, :].to(tl.int64)
        row = tl.load(x + column * stride, mask=mask & (column < 2 * PAIRS))
        shape: tl.constexpr = (x.shape[0], x.shape[1], BLOCK_PAIRS, 2)
        first, second = tl.split(tl.reshape(row, shape))
    else:
        column = tl.arange(0, BLOCK_PAIRS)[None, None, :].to(tl.int64)
        mask = mask & (column < PAIRS)
        first = tl.load(x + column * stride, mask=mask)
        second = tl.load(x + (column + PAIRS) * stride, mask=mask)
    return first, second


@triton.jit
def _store_pairs(
    out,
    stride,
    mask,
    first,
    second,
    PAIRS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """The reverse of _load_pairs."""
    if INTERLEAVED:
        column = tl.arange(0, 2 * BLOCK_PAIRS)[None, None, :].to(tl.int64)
        shape: tl.constexpr = (out.shape[0], out.shape[1], 2 * BLOCK_PAIRS)
        row = tl.reshape(tl.join(first, second), shape)
        tl.store(out + column * stride, row, mask=mask & (column < 2 * PAIRS))
    else:
        column = tl.arange(0, BLOCK_PAIRS)[None, None, :].to(tl.int64)
        mask = mask & (column < PAIRS)
        tl.store(out + column * stride, first, mask=mask)
        tl.store(out + (column + PAIRS) * stride, second, mask=mask)


def rotate_tiles(
    inputs,  # (q, k), the strides of each (batch, token, head, component)
    input_strides,
    outputs,
    output_strides,
    phases_ptr,
    positions_ptr,  # None: a token's position is its index in the sequence
    positions_stride_b,
    positions_stride_s,
    n_tokens,
    seq_len,
    cos_factor: tl.float64,
    sin_factor: tl.float64,  # negative: turn back
    N_HEADS: tl.constexpr,  # (of q, of k)
    HEAD_DIM: tl.constexpr,
    ROTARY_DIM: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,  # (of q, of k)
    BLOCK_PAIRS: tl.constexpr,
    BLOCK_TAIL: tl.constexpr,
    DOUBLE: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """Rotate some tokens: program (i, g) takes token block i and head group g of both q and k.

    Cosine and sine stand once per (token, pair) for all heads of the group. A thread holds both
    members of a pair, reads them before it writes, and nobody else touches them.
    """
    PAIRS: tl.constexpr = ROTARY_DIM // 2
    token = tl.program_id(0) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)  # (T,)
    batch = token // seq_len
    step = (token - batch * seq_len).to(tl.int64)
    batch = batch.to(tl.int64)
    position = step
    if positions_ptr is not None:
        offset = batch * positions_stride_b + step * positions_stride_s
        position = tl.load(positions_ptr + offset, mask=token < n_tokens, other=0).to(tl.int64)
    cos, sin = _cos_sin(position, phases_ptr, PAIRS, BLOCK_PAIRS, DOUBLE, INTERPRETED)
    cos = cos * tl.full((1, 1, 1), cos_factor, cos.dtype)
    sin = sin * tl.full((1, 1, 1), sin_factor, sin.dtype)

    for i in tl.static_range(2):  # q, then k
        head = tl.program_id(1) * BLOCK_HEADS[i] + tl.arange(0, BLOCK_HEADS[i])
        mask = (token < n_tokens)[:, None, None] & (head < N_HEADS[i])[None, :, None]
        head = head.to(tl.int64)[None, :, None]
        stride, out_stride = input_strides[i], output_strides[i]
        x = inputs[i] + (batch * stride[0] + step * stride[1])[:, None, None] + head * stride[2]
        out = outputs[i] + (batch * out_stride[0] + step * out_stride[1])[:, None, None]
        out = out + head * out_stride[2]  # x and out: pointers to rows (T, H, 1)

        first, second = _load_pairs(x, stride[3], mask, PAIRS, BLOCK_PAIRS, INTERLEAVED)
        dtype = first.dtype
        first, second = first.to(cos.dtype), second.to(cos.dtype)
        y_first = (first * cos - second * sin).to(dtype)
        y_second = (first * sin + second * cos).to(dtype)
        _store_pairs(out, out_stride[3], mask, y_first, y_second, PAIRS, BLOCK_PAIRS, INTERLEAVED)
        if BLOCK_TAIL > 0:  # the components that are not rotated
            column = ROTARY_DIM + tl.arange(0, BLOCK_TAIL)[None, None, :].to(tl.int64)
            in_tail = mask & (column < HEAD_DIM)
            tail = tl.load(x + column * stride[3], mask=in_tail)
            tl.store(out + column * out_stride[3], tail, mask=in_tail)


def launch(
    q: Tensor,
    k: Tensor,
    phases: Tensor,
    positions: Tensor | None,
    interleaved: bool,
    factor: float,
    backwards: bool,
) -> tuple[Tensor, Tensor]:
    """Rotate q and k by one launch of the kernel, into new tensors laid out like them.

    `backwards` turns by the negative angles: the derivative of the rotation.
    """
    cpu = q.device.type == "cpu"
    if cpu and q.dtype == torch.bfloat16:
        # The interpreter cuts a float32 off where it should round it to bfloat16.
        wide = launch(q.float(), k.float(), phases, positions, interleaved, factor, backwards)
        return wide[0].to(q.dtype), wide[1].to(q.dtype)
    outputs = torch.empty_like(q), torch.empty_like(k)
    batch, seq_len, n_heads, head_dim = q.shape
    n_tokens, n_kv_heads, rotary_dim = batch * seq_len, k.shape[2], 2 * phases.shape[0]
    if n_tokens == 0 or n_heads + n_kv_heads == 0:
        return outputs
    if n_tokens >= 2**31:
        raise ValueError(f"batch · seq_len = {n_tokens}: must be less than 2^31 tokens")
    grid, blocks = _tiling(n_tokens, n_heads, n_kv_heads, head_dim, rotary_dim, cpu)
    strides = q.stride(), k.stride()
    output_strides = outputs[0].stride(), outputs[1].stride()
    position_strides = (0, 0) if positions is None else (0, *positions.stride())[-2:]
    factors = (factor, -factor if backwards else factor)
    arguments = ((q, k), strides, outputs, output_strides, phases.contiguous(), positions)
    arguments += (*position_strides, n_tokens, seq_len, *factors)
    arguments += ((n_heads, n_kv_heads), head_dim, rotary_dim, interleaved, *blocks)
    arguments += (q.dtype == torch.float64, cpu)
    _run(grid, arguments, q.device)
    return outputs


def _run(grid: tuple[int, int], arguments: tuple[object, ...], device: torch.device) -> None:
    if device.type == "cpu":
        with np.errstate(all="ignore"):  # NaN and Inf are data here, as they are on a GPU
            _interpreted()[grid](*arguments)
    elif device.index == torch.cuda.current_device():
        _compiled()[grid](*arguments, num_warps=NUM_WARPS)
    else:
        with torch.cuda.device(device):
            _compiled()[grid](*arguments, num_warps=NUM_WARPS)


@functools.lru_cache(maxsize=1024)
def _tiling(
    n_tokens: int, n_heads: int, n_kv_heads: int, head_dim: int, rotary_dim: int, cpu: bool
) -> tuple[tuple[int, int], tuple[int, tuple[int, int], int, int]]:
    """Grid and tile sizes: many small tiles for a GPU, one or few huge ones for the interpreter."""
    pairs = triton.next_power_of_2(rotary_dim // 2)
    most_heads = max(n_heads, n_kv_heads)
    width = max(2 * pairs, triton.next_power_of_2(head_dim - rotary_dim))
    if cpu:  # a program costs about 5 ms, an element 0.1 µs
        tile = MAX_TILE
        heads = min(triton.next_power_of_2(most_heads), tile // width)
    else:  # measured on an H200: 8 heads x 4 tokens for wide models, 4 x 16 for narrow ones
        tile = 4096
        heads = min(triton.next_power_of_2(most_heads), 8 if most_heads >= 16 else 4)
    tokens = tile // (heads * width)
    tokens = min(max(tokens, 1), triton.next_power_of_2(n_tokens))
    groups = triton.cdiv(most_heads, heads)
    shares = _share(n_heads, groups), _share(n_kv_heads, groups)
    blocks = (tokens, shares, pairs, triton.next_power_of_2(head_dim - rotary_dim))
    return (triton.cdiv(n_tokens, tokens), groups), blocks


def _share(heads: int, groups: int) -> int:
    """How many heads a group has to take so that all are taken, as a power of two."""
    return triton.next_power_of_2(max(triton.cdiv(heads, groups), 1))


@functools.cache
def _compiled() -> triton.runtime.JITFunction:
    # Lengths vary from call to call: their divisibility by 16 is not worth a compilation.
    return triton.jit(rotate_tiles, do_not_specialize=["n_tokens", "seq_len"])


@functools.cache
def _interpreted() -> InterpretedFunction:
    logging.getLogger(__name__).warning(
        "rope_triton on CPU tensors runs in Triton's interpreter, far slower than rope_pytorch"
    )
    # The same code, with helpers that are plain functions: compiled ones cannot be called here.
    scope = {
        name: value.fn if isinstance(value, triton.runtime.KernelInterface) else value
        for name, value in globals().items()
    }
    return InterpretedFunction(types.FunctionType(rotate_tiles.__code__, scope))
