"""The Triton kernels that RMS-normalise every head before its rotation, and their derivative.

With x̂ = x / rms(x) and R the rotation, forward y = R(w · x̂), backward from the gradient dy:

    g = R⁻¹ dy        dw = Σ g · x̂        dx = (w · g - x̂ · mean(w · g · x̂)) / rms(x)

x̂ is computed again in the backward pass: x has to be read anyway. One of q and k may have no norm.

Shapes: B batch, S sequence, D head_dim; T tokens, H heads and P pairs of a tile.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import triton
import triton.language as tl

from .kernel import copy_all, rotate_pairs, takes_a_block
from .tile import (
    cos_sin,
    load_heads,
    load_weight,
    mean_of_products,
    place_of,
    positions_of,
    store_heads,
    store_weight,
)


def norm_rotate_kernel(
    q,  # (B, S, heads, D), like k
    k,
    q_out,
    k_out,
    q_weight,  # (D,); None: no norm
    k_weight,
    phases_ptr,  # from here on as in rotate_kernel
    positions_ptr,
    offsets_ptr,
    cu_seqlens_ptr,
    q_strides,
    k_strides,
    q_out_strides,
    k_out_strides,
    placement_strides,
    n_tokens,
    seq_len,
    n_boundaries,
    search_steps,
    cos_factor: tl.float64,
    sin_factor: tl.float64,
    eps: tl.float64,  # added to the mean square
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    TAKES_ALL: tl.constexpr,  # a program takes all heads; otherwise one block of q's or of k's
    ONE_STEP: tl.constexpr,
    SINE: tl.constexpr,
):
    """Normalise and rotate: program (i, g) takes token block i, and group g of the heads."""
    place = place_of(tl.program_id(0), n_tokens, seq_len, BLOCK_TOKENS, ONE_STEP)
    placement = (positions_ptr, offsets_ptr, cu_seqlens_ptr, placement_strides)
    position = positions_of(place, placement, n_boundaries, search_steps)
    angle = (position, phases_ptr, cos_factor, sin_factor)
    if TAKES_ALL:
        turn = cos_sin(angle, HEAD, SINE)
        norm_rotate_all(
            q, q_weight, q_out, q_strides, q_out_strides, place, turn, eps, Q_HEADS, HEAD
        )
        norm_rotate_all(
            k, k_weight, k_out, k_strides, k_out_strides, place, turn, eps, K_HEADS, HEAD
        )
    else:
        norm_rotate_one(
            q, q_weight, q_out, q_strides, q_out_strides, place, angle, eps, 0, Q_HEADS, HEAD, SINE
        )
        norm_rotate_one(
            k, k_weight, k_out, k_strides, k_out_strides, place, angle, eps, Q_HEADS.blocks,
            K_HEADS, HEAD, SINE,
        )  # fmt: skip


@triton.jit
def norm_rotate_all(
    x,
    weight_ptr,
    out,
    strides,
    out_strides,
    place,
    turn,
    eps,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
):
    """Normalise and rotate all heads of x, block after block."""
    weight = None
    if weight_ptr is not None:
        weight = load_weight(weight_ptr, HEAD)
    for block in range(HEADS.blocks):
        parts = load_heads(x, strides, place, block, HEADS, HEAD)
        first, second, tail = norm_rotate(parts, weight, turn, eps, HEAD)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)


@triton.jit
def norm_rotate_one(
    x,
    weight_ptr,
    out,
    strides,
    out_strides,
    place,
    angle,
    eps,
    FIRST_GROUP: tl.constexpr,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    SINE: tl.constexpr,
):
    """The same for one block of x's heads, if this program is one of x's: from FIRST_GROUP on."""
    weight = None
    if weight_ptr is not None:
        weight = load_weight(weight_ptr, HEAD)
    first_block = tl.program_id(1) - FIRST_GROUP
    for i in range(takes_a_block(FIRST_GROUP, HEADS)):
        block = first_block + i
        parts = load_heads(x, strides, place, block, HEADS, HEAD)
        turn = cos_sin(angle, HEAD, SINE)  # while the heads are still on their way
        first, second, tail = norm_rotate(parts, weight, turn, eps, HEAD)
        store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)


@triton.jit
def norm_rotate(parts, weight, turn, eps, HEAD: tl.constexpr):
    """First and second members of pairs and the tail, normalised if there is a weight, and turned.

    `parts` and `weight` are such triples, `turn` is (cos, sin).
    """
    first, second, tail = parts
    cos, sin = turn
    first, second = first.to(cos.dtype), second.to(cos.dtype)
    if weight is not None:
        w_first, w_second, w_tail = weight
        tail = tail.to(cos.dtype)
        scale = inverse_rms(first, second, tail, eps, HEAD)
        first = first * scale * w_first.to(cos.dtype)
        second = second * scale * w_second.to(cos.dtype)
        tail = tail * scale * w_tail.to(cos.dtype)
    first, second = rotate_pairs(first, second, cos, sin)
    return first, second, tail


@triton.jit
def inverse_rms(first, second, tail, eps, HEAD: tl.constexpr):
    """1 / rms of every head, (H, T, 1)."""
    square = mean_of_products(first, second, tail, first, second, tail, HEAD)
    return 1.0 / tl.sqrt(square + tl.full((1, 1, 1), eps, first.dtype))


def norm_backward_kernel(
    q,  # (B, S, heads, D) before their norms
    k,
    dq,  # gradients of what was made of them
    dk,
    dv,
    dq_out,
    dk_out,
    dv_out,
    q_weight,  # (D,); None: no norm
    k_weight,
    dweights,  # (programs, 2, D): sums over the tokens of each program
    phases_ptr,  # from here on as in rotate_kernel
    positions_ptr,
    offsets_ptr,
    cu_seqlens_ptr,
    q_strides,
    k_strides,
    dq_strides,
    dk_strides,
    dv_strides,
    dq_out_strides,
    dk_out_strides,
    dv_out_strides,
    placement_strides,
    n_tokens,
    seq_len,
    n_boundaries,
    search_steps,
    n_blocks,  # of tokens
    cos_factor: tl.float64,
    sin_factor: tl.float64,
    eps: tl.float64,
    Q_HEADS: tl.constexpr,
    K_HEADS: tl.constexpr,
    V_HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SINE: tl.constexpr,
):
    """The derivative of norm_rotate_kernel, and a copy of dv.

    Every program takes many blocks of tokens, so that few sums of dw are left to be added up.
    """
    placement = (positions_ptr, offsets_ptr, cu_seqlens_ptr, placement_strides)
    tokens = (n_tokens, seq_len, n_blocks, n_boundaries, search_steps)
    angles = (phases_ptr, cos_factor, sin_factor)
    norm_backward(
        q, dq, dq_out, q_strides, dq_strides, dq_out_strides, q_weight, dweights, 0, placement,
        tokens, angles, eps, Q_HEADS, HEAD, BLOCK_TOKENS, SINE,
    )  # fmt: skip
    norm_backward(
        k, dk, dk_out, k_strides, dk_strides, dk_out_strides, k_weight, dweights, 1, placement,
        tokens, angles, eps, K_HEADS, HEAD, BLOCK_TOKENS, SINE,
    )  # fmt: skip
    for token_block in range(tl.program_id(0), n_blocks, tl.num_programs(0)):
        place = place_of(token_block, n_tokens, seq_len, BLOCK_TOKENS, False)
        copy_all(dv, dv_out, dv_strides, dv_out_strides, place, V_HEADS, HEAD)


@triton.jit
def norm_backward(
    x,
    grad,
    out,
    strides,
    grad_strides,
    out_strides,
    weight_ptr,
    dweights,
    ROW: tl.constexpr,  # of dweights: 0 for q, 1 for k
    placement,
    tokens,
    angles,
    eps,
    HEADS: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SINE: tl.constexpr,
):
    """Gradients of x, and of its weight as far as this program's tokens go."""
    n_tokens, seq_len, n_blocks, n_boundaries, search_steps = tokens
    phases_ptr, cos_factor, sin_factor = angles
    precision: tl.constexpr = tl.float64 if SINE.float64 else tl.float32
    if weight_ptr is not None:
        w_first, w_second, w_tail = load_weight(weight_ptr, HEAD)
        w_first, w_second = w_first.to(precision), w_second.to(precision)
        w_tail = w_tail.to(precision)
        dw_first = tl.full((HEADS.block, BLOCK_TOKENS, HEAD.block_pairs), 0, precision)
        dw_second, dw_tail = dw_first, dw_first
        if HEAD.block_tail > 0:
            dw_tail = tl.full((HEADS.block, BLOCK_TOKENS, HEAD.block_tail), 0, precision)
    for token_block in range(tl.program_id(0), n_blocks, tl.num_programs(0)):
        place = place_of(token_block, n_tokens, seq_len, BLOCK_TOKENS, False)
        position = positions_of(place, placement, n_boundaries, search_steps)
        cos, sin = cos_sin((position, phases_ptr, cos_factor, sin_factor), HEAD, SINE)
        for block in range(HEADS.blocks):
            first, second, tail = load_heads(grad, grad_strides, place, block, HEADS, HEAD)
            first, second = rotate_pairs(first, second, cos, sin)
            if weight_ptr is not None:
                x_first, x_second, x_tail = load_heads(x, strides, place, block, HEADS, HEAD)
                x_first, x_second = x_first.to(precision), x_second.to(precision)
                x_tail, tail = x_tail.to(precision), tail.to(precision)
                scale = inverse_rms(x_first, x_second, x_tail, eps, HEAD)
                x_first, x_second, x_tail = x_first * scale, x_second * scale, x_tail * scale
                dw_first += first * x_first
                dw_second += second * x_second
                first, second = first * w_first, second * w_second
                if HEAD.block_tail > 0:
                    dw_tail += tail * x_tail
                    tail = tail * w_tail
                mean = mean_of_products(first, second, tail, x_first, x_second, x_tail, HEAD)
                first = (first - x_first * mean) * scale
                second = (second - x_second * mean) * scale
                tail = (tail - x_tail * mean) * scale
            store_heads(out, out_strides, place, block, first, second, tail, HEADS, HEAD)
    if weight_ptr is not None:
        dweight = dweights + (tl.program_id(0) * 2 + ROW) * HEAD.dim
        store_weight(dweight, dw_first, dw_second, dw_tail, HEAD)
