"""The Triton kernel that rotates q and k.

A program takes a few tokens and heads. It computes the tokens' cosines and sines once, from their
positions, and turns the pairs of every head that it takes; `rotate_pairs` is the rotation itself.
For the gradient of a packed projection the kernel copies v as well.

Shapes: B batch, S sequence, D head_dim; T tokens, H heads and P pairs of a tile.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import triton
import triton.language as tl

from .tile import cos_sin, load_heads, place_of, positions_of, store_heads


def rotate_kernel(
    q,  # (B, S, heads, D), like k and v
    k,
    v,  # to be copied; None: there is no such tensor
    q_out,
    k_out,
    v_out,
    phases_ptr,  # (P,)
    positions_ptr,  # at most one of these three is not None
    offsets_ptr,
    cu_seqlens_ptr,
    q_strides,  # (batch, token, head, component); None, all of the inputs': they are contiguous
    k_strides,
    v_strides,
    q_out_strides,  # the same for the outputs
    k_out_strides,
    v_out_strides,
    placement_strides,  # of positions (batch, token), or of what else there is (entry, 0)
    n_tokens,  # B·S
    seq_len,
    n_boundaries,  # of cu_seqlens
    search_steps,  # that find a token among them
    cos_factor: tl.float64,
    sin_factor: tl.float64,  # negative: turn back
    Q_HEADS: tl.constexpr,  # see Heads in sizes.py
    K_HEADS: tl.constexpr,
    V_HEADS: tl.constexpr,
    HEAD: tl.constexpr,  # see Head in sizes.py
    BARRIER: tl.constexpr,  # outputs are inputs, and several threads hold the same element
    BLOCK_TOKENS: tl.constexpr,
    TAKES_ALL: tl.constexpr,  # a program takes all heads,
    TAKES_Q_WITH_K: tl.constexpr,  # or a block of q's and one of k's; otherwise one of either
    ONE_STEP: tl.constexpr,  # seq_len is 1
    SINE: tl.constexpr,  # see Sine in sizes.py
):
    """Rotate some tokens: program (i, g) takes token block i, and group g of the heads.

    A thread holds both members of a pair, reads them before it writes, and nobody else touches
    them: outputs may be the inputs.
    """
    place = place_of(tl.program_id(0), n_tokens, seq_len, BLOCK_TOKENS, ONE_STEP)
    placement = (positions_ptr, offsets_ptr, cu_seqlens_ptr, placement_strides)
    position = positions_of(place, placement, n_boundaries, search_steps)  # (T,)
    angle = (position, phases_ptr, cos_factor, sin_factor)
    if TAKES_ALL:
        cos, sin = cos_sin(angle, HEAD, SINE)
        rotate_all(q, q_out, q_strides, q_out_strides, place, cos, sin, Q_HEADS, HEAD, BARRIER)
        rotate_all(k, k_out, k_strides, k_out_strides, place, cos, sin, K_HEADS, HEAD, BARRIER)
        if v is not None:
            copy_all(v, v_out, v_strides, v_out_strides, place, V_HEADS, HEAD)
    elif TAKES_Q_WITH_K:
        group = tl.program_id(1)
        q_first, q_second, q_tail = load_heads(q, q_strides, place, group, Q_HEADS, HEAD)
        k_first, k_second, k_tail = load_heads(k, k_strides, place, group, K_HEADS, HEAD)
        if BARRIER:
            tl.debug_barrier()
        cos, sin = cos_sin(angle, HEAD, SINE)  # while the heads are still on their way
        first, second = rotate_pairs(q_first, q_second, cos, sin)
        store_heads(q_out, q_out_strides, place, group, first, second, q_tail, Q_HEADS, HEAD)
        first, second = rotate_pairs(k_first, k_second, cos, sin)
        store_heads(k_out, k_out_strides, place, group, first, second, k_tail, K_HEADS, HEAD)
    else:
        rotate_one(
            q, q_out, q_strides, q_out_strides, place, angle, 0, Q_HEADS, HEAD, SINE, BARRIER,
        )  # fmt: skip
        rotate_one(
            k, k_out, k_strides, k_out_strides, place, angle, Q_HEADS.blocks, K_HEADS, HEAD, SINE,
            BARRIER,
        )  # fmt: skip
        if v is not None:
            FIRST_OF_V: tl.constexpr = Q_HEADS.blocks + K_HEADS.blocks
            copy_one(v, v_out, v_strides, v_out_strides, place, FIRST_OF_V, V_HEADS, HEAD)


@triton.jit
def rotate_pairs(first, second, cos, sin):
    """Pairs (H, T, P) turned by their angles (1, T, P), in the precision of these."""
    first, second = first.to(cos.dtype), second.to(cos.dtype)
    return first * cos - second * sin, first * sin + second * cos


@triton.jit
def rotate_all(
    x,
    out,
    strides,
    out_strides,
    place,
    cos,
    sin,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    BARRIER: tl.constexpr,
):
    """Rotate all heads of x, block after block."""
    for block in range(HEADS.blocks):
        first, second, tail = load_heads(x, strides, place, block, HEADS, HEAD)
        if BARRIER:
            tl.debug_barrier()
        first, second = rotate_pairs(first, second, cos, sin)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)


@triton.jit
def rotate_one(
    x,
    out,
    strides,
    out_strides,
    place,
    angle,
    FIRST_GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SINE: tl.constexpr,
    BARRIER: tl.constexpr,
):
    """Rotate one block of x's heads, if this program is one of x's: from FIRST_GROUP on."""
    first_block = tl.program_id(1) - FIRST_GROUP
    for i in range(takes_a_block(FIRST_GROUP, HEADS)):
        block = first_block + i
        first, second, tail = load_heads(x, strides, place, block, HEADS, HEAD)
        if BARRIER:
            tl.debug_barrier()
        cos, sin = cos_sin(angle, HEAD, SINE)  # while the heads are still on their way
        first, second = rotate_pairs(first, second, cos, sin)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)


@triton.jit
def takes_a_block(FIRST_GROUP: tl.constexpr, HEADS: tl.constexpr):
    """1 if this program takes one of the blocks, the first of which is FIRST_GROUP's; otherwise 0.

    That is how often the loop over its blocks turns.
    """
    group = tl.program_id(1)
    return ((group >= FIRST_GROUP) & (group < FIRST_GROUP + HEADS.blocks)).to(tl.int32)


@triton.jit
def copy_all(x, out, strides, out_strides, place, HEADS: tl.constexpr, HEAD: tl.constexpr):
    """Copy all heads of x, block after block."""
    for block in range(HEADS.blocks):
        first, second, tail = load_heads(x, strides, place, block, HEADS, HEAD)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)


@triton.jit
def copy_one(
    x,
    out,
    strides,
    out_strides,
    place,
    FIRST_GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Copy one block of x's heads, if this program is one of x's: from FIRST_GROUP on."""
    first_block = tl.program_id(1) - FIRST_GROUP
    for i in range(takes_a_block(FIRST_GROUP, HEADS)):
        block = first_block + i
        first, second, tail = load_heads(x, strides, place, block, HEADS, HEAD)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)
