"""Flash attention in which every query sees intervals of the keys, each under its own rotation.

The softmax runs online (FlashAttention, arXiv:2205.14135) over the keys of one pass after the
other: a pass has queries and keys of its own, all share the values. The bounds of the intervals do
not decrease from one query to the next, so that the first and the last row of a block tell which
tiles of keys it meets at all, and which of them lie inside for all of its rows and need no mask.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim,
P passes; M rows (queries) of a block, N keys of a tile.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import functools
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import sum as tl_sum  # a helper of Triton's: by a name of its own

from ..launch import Launch

MAX_PASSES = 3
LOWEST = tl.constexpr(-3e38)  # of scores: finite, so that a row without keys gives 0 and no NaN
LOG2E = math.log2(math.e)


def interval_attention_kernel(
    q_0,  # of each pass; None: there is no such pass
    q_1,
    q_2,
    k_0,
    k_1,
    k_2,
    v,
    low,  # (P, S) int32
    high,
    slopes,  # (H,) float32, or None
    out,
    q_strides,  # of each pass (batch, token, head, component)
    k_strides,
    v_strides,
    out_strides,
    seq_len,
    PASSES: tl.constexpr,
    N_HEADS: tl.constexpr,
    GROUP: tl.constexpr,  # heads of queries that share a head of keys
    HEAD_DIM: tl.constexpr,
    SCALE: tl.constexpr,  # of the scores, to the base 2
    M: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,  # D as a power of two
):
    """One head of one sequence, M rows: program (head of the batch, block from the last)."""
    block = tl.num_programs(1) - 1 - tl.program_id(1)  # the rows that see most keys first
    batch = (tl.program_id(0) // N_HEADS).to(tl.int64)
    head = (tl.program_id(0) % N_HEADS).to(tl.int64)
    first = block * M
    last = tl.minimum(first + M, seq_len) - 1
    row = first + tl.arange(0, M)
    component = tl.arange(0, WIDTH)
    in_rows = row < seq_len
    in_tile = in_rows[:, None] & (component < HEAD_DIM)[None, :]
    bias = None
    if slopes is not None:
        bias = tl.load(slopes + head).to(tl.float32) * (1.4426950408889634 / SCALE)

    most = tl.full((M,), LOWEST, tl.float32)  # the greatest score so far, to the base 2
    total = tl.full((M,), 0, tl.float32)  # of the weights, relative to 2^most
    acc = tl.full((M, WIDTH), 0, tl.float32)
    queries, keys = (q_0, q_1, q_2), (k_0, k_1, k_2)
    v_tile = _tile(v, v_strides, batch, head // GROUP, tl.arange(0, N)[:, None], component[None, :])
    for i in tl.static_range(PASSES):
        at = _tile(queries[i], q_strides[i], batch, head, row[:, None], component[None, :])
        q = tl.load(at, mask=in_tile, other=0.0)
        k_tile = _tile(
            keys[i],
            k_strides[i],
            batch,
            head // GROUP,
            tl.arange(0, N)[None, :],
            component[:, None],
        )
        lows, highs = low + i * seq_len, high + i * seq_len
        row_low = tl.load(lows + row, mask=in_rows, other=0)
        row_high = tl.load(highs + row, mask=in_rows, other=0)
        start, end = tl.load(lows + first), tl.load(highs + last)
        # Tiles begin at start + a multiple of N; from `inner` to `outer` all rows see all keys.
        tiles = (tl.maximum(end - start, 0) + N - 1) // N
        inner = (tl.load(lows + last) - start + N - 1) // N
        inner = tl.minimum(tl.maximum(inner, 0), tiles)
        outer = tl.maximum(tl.load(highs + first) - start, 0) // N
        outer = tl.minimum(tl.maximum(outer, inner), tiles)
        for tile in range(0, outer - inner):
            key = start + (inner + tile) * N
            acc, most, total = _attend(
                acc, most, total, q, k_tile, k_strides[i][1], v_tile, v_strides[1], key,
                row_low, row_high, end, bias, HEAD_DIM, SCALE, N, WIDTH, False,
            )  # fmt: skip
        for tile in range(0, inner + tiles - outer):
            key = start + tl.where(inner > tile, tile, tile + outer - inner) * N
            acc, most, total = _attend(
                acc, most, total, q, k_tile, k_strides[i][1], v_tile, v_strides[1], key,
                row_low, row_high, end, bias, HEAD_DIM, SCALE, N, WIDTH, True,
            )  # fmt: skip

    y = acc / tl.where(total > 0, total, 1.0)[:, None]
    at = _tile(out, out_strides, batch, head, row[:, None], component[None, :])
    tl.store(at, y.to(out.dtype.element_ty), mask=in_tile)


@triton.jit
def _tile(x, strides, batch, head, token, component):
    """Where the components of tokens of one head stand."""
    x += batch * strides[0] + head * strides[2]
    return x + token.to(tl.int64) * strides[1] + component * strides[3]


@triton.jit
def _attend(
    acc,  # (M, D)
    most,  # (M,)
    total,
    q,  # (M, D)
    k_tile,  # (D, N), of the keys from 0 on
    k_step,
    v_tile,  # (N, D)
    v_step,
    key,  # the first of the tile
    row_low,  # (M,)
    row_high,
    end,  # of the keys that any row sees
    bias,
    HEAD_DIM: tl.constexpr,
    SCALE: tl.constexpr,
    N: tl.constexpr,
    WIDTH: tl.constexpr,
    MASKED: tl.constexpr,
):
    """The online softmax over one more tile of keys."""
    number = key + tl.arange(0, N)
    component = tl.arange(0, WIDTH)
    k_tile += key.to(tl.int64) * k_step
    v_tile += key.to(tl.int64) * v_step
    if MASKED or WIDTH > HEAD_DIM:
        there, whole = number < end, component < HEAD_DIM
        k = tl.load(k_tile, mask=there[None, :] & whole[:, None], other=0.0)
        v = tl.load(v_tile, mask=there[:, None] & whole[None, :], other=0.0)
    else:
        k = tl.load(k_tile)
        v = tl.load(v_tile)
    scores = tl.dot(q, k, input_precision="ieee")
    if bias is not None:
        scores -= bias * (row_high[:, None] - 1 - number[None, :]).to(tl.float32)
    if MASKED:
        inside = (number[None, :] >= row_low[:, None]) & (number[None, :] < row_high[:, None])
        scores = tl.where(inside, scores, float("-inf"))
    # What tl.max does, which the interpreter cannot call.
    greatest = tl.reduce(scores, 1, tl.standard._elementwise_max)
    new = tl.maximum(most, greatest * SCALE)
    weights = tl.exp2(scores * SCALE - new[:, None])
    shrink = tl.exp2(most - new)
    total = total * shrink + tl_sum(weights, 1)
    acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return acc, new, total


def attend(
    q: tuple[Tensor, ...],
    k: tuple[Tensor, ...],
    v: Tensor,
    low: Tensor,
    high: Tensor,
    slopes: Tensor | None,
) -> Tensor:
    """`interval_attention` of arguments that are known to be good."""
    if v.dtype != torch.float32 and not v.is_cuda:  # the interpreter cuts off where it should round
        wide = (tuple(x.float() for x in q), tuple(x.float() for x in k), v.float())
        return attend(*wide, low, high, slopes).to(v.dtype)
    out = torch.empty(q[0].shape, dtype=q[0].dtype, device=v.device)
    if out.numel() > 0:
        strides = (tuple(x.stride() for x in q), tuple(x.stride() for x in k), v.stride())
        launch = _launch(out.shape, v.shape[2], out.dtype, v.device, strides, slopes is not None)
        missing = (None,) * (MAX_PASSES - len(q))
        launch(*q, *missing, *k, *missing, v, low, high, slopes, out)
    return out


class Tiling(NamedTuple):
    """How the work is cut."""

    rows: int
    keys: int
    warps: int
    stages: int  # tiles of keys and values that are on their way at a time


def tiling(seq_len: int, width: int, itemsize: int, cpu: bool) -> Tiling:
    """For S queries, head_dim (a power of two) and bytes of an element."""
    if cpu:  # small, so that what runs there, tests, sees many tiles
        return Tiling(32, 16, 1, 1)
    if itemsize == 4:  # no tensor cores: their precision is not float32's
        tiles = Tiling(64, 32, 8, 2) if width <= 64 else Tiling(32, 16, 8, 2)
    elif width <= 64:
        tiles = Tiling(128, 64, 4, 3)
    else:
        tiles = Tiling(128, 64, 8, 3 if width == 128 else 2)
    return tiles._replace(rows=min(tiles.rows, max(16, triton.next_power_of_2(seq_len))))


@functools.lru_cache(maxsize=4096)
def _launch(
    shape: tuple[int, int, int, int],  # of the output
    n_kv_heads: int,
    dtype: torch.dtype,
    device: torch.device,
    strides: tuple,  # of the queries and the keys of each pass, and of the values
    biased: bool,
) -> Launch:
    """A launch does not depend on how many keys there are: decoding uses one again and again."""
    batch, seq_len, n_heads, head_dim = shape
    q_strides, k_strides, v_strides = strides
    width = max(16, triton.next_power_of_2(head_dim))  # the least that tensor cores take
    tiles = tiling(seq_len, width, dtype.itemsize, device.type == "cpu")
    out_strides = (seq_len * n_heads * head_dim, n_heads * head_dim, head_dim, 1)
    numbers = (
        _filled(q_strides),
        _filled(k_strides),
        v_strides,
        out_strides,
        seq_len,
        len(q_strides),
        n_heads,
        n_heads // n_kv_heads,
        head_dim,
        LOG2E / math.sqrt(head_dim),
        tiles.rows,
        tiles.keys,
        width,
    )
    grid = (batch * n_heads, triton.cdiv(seq_len, tiles.rows))
    options = {"num_stages": tiles.stages, "enable_fp_fusion": True}
    return Launch(interval_attention_kernel, grid, numbers, device, tiles.warps, **options)


def _filled(strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return strides + strides[:1] * (MAX_PASSES - len(strides))
