"""What Triton kernels of the rotation are made of: positions, sines, and pairs of a tile.

A tile holds T tokens of H heads, as (H, T, P) pairs. Along the last axis it is spread over
threads, then along T, and last along H: a thread has the same pairs of the same token in several
heads, and computes their cosine and sine once for all of them.

HEAD, HEADS and SINE are constants known to the compiler: Head, Heads and Sine of sizes.py.

These functions run compiled on a GPU and, undecorated, in Triton's interpreter. What it cannot do
(call libdevice) stands behind SINE.

Shapes: T tokens of a tile (B·S flattened), H heads of a tile, P pairs of a head.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import math

import triton
import triton.language as tl
from triton.language import sum as tl_sum  # a helper of Triton's: by a name of its own
from triton.language.extra import libdevice

RADIANS_PER_TURN_32 = tl.constexpr(2 * math.pi / 2**32)
RADIANS_PER_TURN_64 = tl.constexpr(2 * math.pi / 2**64)


@triton.jit
def place_of(token_block, n_tokens, seq_len, BLOCK_TOKENS: tl.constexpr, ONE_STEP: tl.constexpr):
    """Where the tokens (T,) of a block are, of all n_tokens = B·S.

    The token int32, its sequence and its index there int64, and whether there is such a token.
    ONE_STEP: sequences have one token.
    """
    token = token_block * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)
    if ONE_STEP:
        batch, step = token.to(tl.int64), tl.full(token.shape, 0, tl.int64)
    else:
        sequence = token // seq_len
        batch, step = sequence.to(tl.int64), (token - sequence * seq_len).to(tl.int64)
    return token, batch, step, token < n_tokens


@triton.jit
def positions_of(place, placement, n_boundaries, search_steps):
    """Position (T,) int64 of every token, by whichever of the three there is."""
    token, batch, step, inside = place
    positions_ptr, offsets_ptr, cu_seqlens_ptr, strides = placement
    first_stride, second_stride = strides
    position = step
    if positions_ptr is not None:
        offset = batch * first_stride + step * second_stride
        position = tl.load(positions_ptr + offset, mask=inside, other=0).to(tl.int64)
    if offsets_ptr is not None:
        offset = batch * first_stride
        position += tl.load(offsets_ptr + offset, mask=inside, other=0).to(tl.int64)
    if cu_seqlens_ptr is not None:
        # The last boundary that does not lie beyond the token, by bisection: a search takes
        # about as long among thousands of segments as among a few.
        low = tl.full(token.shape, 0, tl.int32)
        high = low + n_boundaries
        for _ in range(search_steps):
            middle = (low + high) // 2
            below = tl.load(cu_seqlens_ptr + middle * first_stride) <= token
            low = tl.where(below, middle, low)
            high = tl.where(below, high, middle)
        position -= tl.load(cu_seqlens_ptr + low * first_stride).to(tl.int64)
    return position


@triton.jit
def cos_sin(angle, HEAD: tl.constexpr, SINE: tl.constexpr):
    """Cosine and sine (1, T, P) of position (T,) times every phase, which wraps at one turn.

    `angle` is (position, phases_ptr, cos_factor, sin_factor). The GPU's own unit of sines (MUFU)
    is wrong by 2^-20.5 at most (PTX ISA, sin.approx), at a float32 angle that is itself rounded:
    by 1e-6 in all, which 16-bit data cannot show.
    """
    position, phases_ptr, cos_factor, sin_factor = angle
    pair = tl.arange(0, HEAD.block_pairs)
    phase = tl.load(phases_ptr + pair, mask=pair < HEAD.rotary_dim // 2, other=0)
    turn = (position[:, None] * phase[None, :])[None, :, :]
    if SINE.float64:
        radians = turn.to(tl.float64) * RADIANS_PER_TURN_64
        if SINE.interpreted:
            cos, sin = tl.cos(radians), tl.sin(radians)
        else:
            cos, sin = libdevice.cos(radians), libdevice.sin(radians)
    else:
        turn = (turn >> 32).to(tl.int32)
        if SINE.hardware:
            radians = turn.to(tl.float32) * RADIANS_PER_TURN_32
            cos, sin = libdevice.fast_cosf(radians), libdevice.fast_sinf(radians)
        else:
            cos, sin = _cos_sin_of_turn(turn)
    cos = cos * tl.full((1, 1, 1), cos_factor, cos.dtype)
    sin = sin * tl.full((1, 1, 1), sin_factor, sin.dtype)
    return cos, sin


@triton.jit
def _cos_sin_of_turn(turn):
    """float32 cosine and sine of a turn in units of 2^-32, by its nearest quarter and a rest.

    The rest, an eighth of a turn at most, goes through the shortest minimax polynomials (found by
    Remez' algorithm) that float32 can tell nothing from: the error of the rotated vector is 1.4e-7
    at most, 3.4e-8 root mean square (tests/kernels/rope/test_forward.py).
    """
    quarter = (turn + (1 << 29)) >> 30  # wraps as turns do
    x = (turn - (quarter << 30)).to(tl.float32) * RADIANS_PER_TURN_32
    z = x * x
    sin = x + x * z * (-0.166666549437 + z * (0.00833217814571 + z * -0.00019517298936))
    cos = z * z * (0.0416666468664 + z * (-0.00138873675158 + z * 2.44384515971e-5))
    cos = 1.0 - 0.5 * z + cos
    swapped = (quarter & 1) != 0
    even, odd = tl.where(swapped, sin, cos), tl.where(swapped, cos, sin)
    cos = tl.where(((quarter + 1) & 2) != 0, -even, even)
    sin = tl.where((quarter & 2) != 0, -odd, odd)
    return cos, sin


@triton.jit
def load_heads(x, strides, place, block, HEADS: tl.constexpr, HEAD: tl.constexpr):
    """A block of the heads of x, in the three parts that `_load_parts` describes."""
    pointer, stride, mask = _heads_at(x, strides, place, block, HEADS, HEAD)
    return _load_parts(pointer, stride, mask, HEAD)


@triton.jit
def store_heads(
    out,
    strides,
    place,
    block,
    first,
    second,
    tail,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """The reverse of `load_heads`, with a cast to the type of out."""
    pointer, stride, mask = _heads_at(out, strides, place, block, HEADS, HEAD)
    _store_parts(pointer, stride, mask, first, second, tail, HEAD)


@triton.jit
def _heads_at(x, strides, place, block, HEADS: tl.constexpr, HEAD: tl.constexpr):
    """A block of heads: pointers (H, T, 1) to their first components, stride to the next, mask.

    `strides` of x are (batch, token, head, component), or None if x is contiguous.
    """
    token, batch, step, inside = place
    head = block * HEADS.block + tl.arange(0, HEADS.block)
    mask = inside[None, :, None] & (head < HEADS.total)[:, None, None]
    head = head.to(tl.int64)[:, None, None]
    if strides is None:
        x += token.to(tl.int64)[None, :, None] * (HEADS.total * HEAD.dim)
        x += head * HEAD.dim
        component_stride = 1
    else:
        batch_stride, token_stride, head_stride, component_stride = strides
        x += (batch * batch_stride + step * token_stride)[None, :, None]
        x += head * head_stride
    return x, component_stride, mask


@triton.jit
def _load_parts(x, stride, mask, HEAD: tl.constexpr):
    """The components of heads at x (H, T, 1): first and second members of pairs, and the tail.

    First and second are (H, T, HEAD.block_pairs). The tail (H, T, HEAD.block_tail) is what is not
    rotated; if its block is 0, a stand-in. Interleaved rows are read whole, then split: memory sees
    one stream, and a thread still holds both members of its pairs.
    """
    ROTARY_DIM: tl.constexpr = HEAD.rotary_dim
    if HEAD.interleaved:
        column = tl.arange(0, 2 * HEAD.block_pairs)[None, None, :].to(tl.int64)
        row = tl.load(x + column * stride, mask=mask & (column < ROTARY_DIM), other=0.0)
        shape: tl.constexpr = (x.shape[0], x.shape[1], HEAD.block_pairs, 2)
        first, second = tl.split(tl.reshape(row, shape))
    else:
        column = tl.arange(0, HEAD.block_pairs)[None, None, :].to(tl.int64)
        in_half = mask & (column < ROTARY_DIM // 2)
        first = tl.load(x + column * stride, mask=in_half, other=0.0)
        second = tl.load(x + (column + ROTARY_DIM // 2) * stride, mask=in_half, other=0.0)
    tail = first
    if HEAD.block_tail > 0:
        column = ROTARY_DIM + tl.arange(0, HEAD.block_tail)[None, None, :].to(tl.int64)
        tail = tl.load(x + column * stride, mask=mask & (column < HEAD.dim), other=0.0)
    return first, second, tail


@triton.jit
def _store_parts(out, stride, mask, first, second, tail, HEAD: tl.constexpr):
    """The reverse of `_load_parts`, with a cast to the type of out."""
    ROTARY_DIM: tl.constexpr = HEAD.rotary_dim
    dtype = out.dtype.element_ty
    first, second = first.to(dtype), second.to(dtype)
    if HEAD.interleaved:
        column = tl.arange(0, 2 * HEAD.block_pairs)[None, None, :].to(tl.int64)
        shape: tl.constexpr = (first.shape[0], first.shape[1], 2 * HEAD.block_pairs)
        row = tl.reshape(tl.join(first, second), shape)
        in_row = mask & (column < ROTARY_DIM)
        tl.store(out + column * stride, row, mask=in_row)
    else:
        column = tl.arange(0, HEAD.block_pairs)[None, None, :].to(tl.int64)
        in_half = mask & (column < ROTARY_DIM // 2)
        second_half = out + (column + ROTARY_DIM // 2) * stride
        tl.store(out + column * stride, first, mask=in_half)
        tl.store(second_half, second, mask=in_half)
    if HEAD.block_tail > 0:
        column = ROTARY_DIM + tl.arange(0, HEAD.block_tail)[None, None, :].to(tl.int64)
        in_tail, tail = mask & (column < HEAD.dim), tail.to(dtype)
        tl.store(out + column * stride, tail, mask=in_tail)


@triton.jit
def load_weight(weight_ptr, HEAD: tl.constexpr):
    """A weight (D,) in the parts of a head, (1, 1, P) and (1, 1, block of the tail)."""
    return _load_parts(_as_row(weight_ptr), 1, _all(), HEAD)


@triton.jit
def store_weight(out_ptr, first, second, tail, HEAD: tl.constexpr):
    """A weight's gradient (D,), from sums over the tile (H, T, ...) of each of its parts."""
    first, second = _sum_of_tile(first), _sum_of_tile(second)
    if HEAD.block_tail > 0:
        tail = _sum_of_tile(tail)
    _store_parts(_as_row(out_ptr), 1, _all(), first, second, tail, HEAD)


@triton.jit
def mean_of_products(a_first, a_second, a_tail, b_first, b_second, b_tail, HEAD: tl.constexpr):
    """Mean over a head's components of a · b, (H, T, 1)."""
    total = tl_sum(a_first * b_first + a_second * b_second, axis=2)
    if HEAD.block_tail > 0:
        total += tl_sum(a_tail * b_tail, axis=2)
    return (total / HEAD.dim)[:, :, None]


@triton.jit
def _sum_of_tile(x):
    return tl_sum(tl_sum(x, axis=0), axis=0)[None, None, :]


@triton.jit
def _as_row(pointer):
    return pointer + tl.full((1, 1, 1), 0, tl.int32)


@triton.jit
def _all():
    return tl.full((1, 1, 1), 1, tl.int1)
