"""The kernels of the rotation, forward and backward, in Triton.

One kernel rotates q and k. It serves the packed projection too: it may take a third tensor, v,
which it copies, and weights of an RMS norm that every head goes through before it is rotated. The
other kernel is the derivative of the one with norms.

Shapes: B batch, S sequence, D head_dim; T tokens, H heads and P pairs of a tile.
"""

# No `from __future__ import annotations` here: triton.jit reads the annotations as they stand.

import triton.language as tl

from kernels.rope.triton.tile import (
    cos_sin,
    heads_of,
    load_head,
    load_weight,
    mean_of_products,
    place_of,
    positions_of,
    rotated,
    store_head,
    store_weight,
)


def rotate_kernel(
    q,
    k,
    v,  # to be copied; None: there is no such tensor
    q_out,
    k_out,
    v_out,
    q_weight,  # (D,) of an RMS norm, or None
    k_weight,
    phases_ptr,
    positions_ptr,
    offsets_ptr,
    cu_seqlens_ptr,
    strides,  # of q, k and v, each (batch, token, head, component); None: all are contiguous
    out_strides,
    placement_strides,  # of what there is of these: (batch, token), or (entry, 0)
    n_tokens,
    seq_len,
    n_boundaries,
    search_steps,
    cos_factor: tl.float64,
    sin_factor: tl.float64,  # negative: turn back
    eps: tl.float64,
    N_HEADS: tl.constexpr,  # of q, k and v
    HEAD: tl.constexpr,  # see load_head
    BARRIER: tl.constexpr,  # outputs are inputs, and several threads hold the same element
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,  # of q, k and v
    SHARES: tl.constexpr,  # how many blocks of heads each has
    TAKES: tl.constexpr,  # what a program takes: all of them, one, or one of q and of k together
    ONE_STEP: tl.constexpr,  # see place_of
    SINES: tl.constexpr,  # see cos_sin
):
    """Rotate some tokens: program (i, g) takes token block i, and its share of the heads.

    A thread holds both members of a pair, reads them before it writes, and nobody else touches
    them: outputs may be the inputs.
    """
    token = tl.program_id(0) * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)  # (T,)
    place = place_of(token, n_tokens, seq_len, ONE_STEP)
    position = positions_of(
        place,
        positions_ptr,
        placement_strides,
        offsets_ptr,
        cu_seqlens_ptr,
        n_boundaries,
        search_steps,
    )
    if TAKES == "all":
        cos, sin = cos_sin(position, phases_ptr, cos_factor, sin_factor, HEAD, SINES)
    inputs, outputs, weights = (q, k, v), (q_out, k_out, v_out), (q_weight, k_weight, None)

    if TAKES == "together":  # both are read before the sines are made
        group = tl.program_id(1)
        x, stride, mask = heads_of(q, strides, 0, place, group, N_HEADS, BLOCK_HEADS, HEAD)
        q_first, q_second, q_tail = load_head(x, stride, mask, HEAD)
        x, stride, mask = heads_of(k, strides, 1, place, group, N_HEADS, BLOCK_HEADS, HEAD)
        k_first, k_second, k_tail = load_head(x, stride, mask, HEAD)
        if BARRIER:
            tl.debug_barrier()
        cos, sin = cos_sin(position, phases_ptr, cos_factor, sin_factor, HEAD, SINES)
        first, second = rotated(q_first, q_second, cos, sin)
        out, stride, mask = heads_of(
            q_out, out_strides, 0, place, group, N_HEADS, BLOCK_HEADS, HEAD
        )
        store_head(out, stride, mask, first, second, q_tail, HEAD)
        first, second = rotated(k_first, k_second, cos, sin)
        out, stride, mask = heads_of(
            k_out, out_strides, 1, place, group, N_HEADS, BLOCK_HEADS, HEAD
        )
        store_head(out, stride, mask, first, second, k_tail, HEAD)

    first_group = 0
    for i in tl.static_range(0 if TAKES == "together" else 3):  # q, k, v
        if inputs[i] is not None:
            if weights[i] is not None:
                w_first, w_second, w_tail = load_weight(weights[i], HEAD)
            first_block, blocks = 0, SHARES[i]
            if TAKES == "one":
                group = tl.program_id(1)
                first_block = group - first_group
                blocks = ((group >= first_group) & (group < first_group + SHARES[i])).to(tl.int32)
                first_group += SHARES[i]
            for share in range(blocks):
                block = first_block + share
                x, stride, mask = heads_of(
                    inputs[i], strides, i, place, block, N_HEADS, BLOCK_HEADS, HEAD
                )
                first, second, tail = load_head(x, stride, mask, HEAD)
                if BARRIER:
                    tl.debug_barrier()
                if TAKES == "one":  # read before the sines are made
                    cos, sin = cos_sin(position, phases_ptr, cos_factor, sin_factor, HEAD, SINES)
                if i < 2:
                    first, second = first.to(cos.dtype), second.to(cos.dtype)
                    if weights[i] is not None:
                        tail = tail.to(cos.dtype)
                        square = mean_of_products(first, second, tail, first, second, tail, HEAD)
                        scale = 1.0 / tl.sqrt(square + tl.full((1, 1, 1), eps, cos.dtype))
                        first = first * scale * w_first.to(cos.dtype)
                        second = second * scale * w_second.to(cos.dtype)
                        tail = tail * scale * w_tail.to(cos.dtype)
                    first, second = rotated(first, second, cos, sin)
                out, stride, mask = heads_of(
                    outputs[i], out_strides, i, place, block, N_HEADS, BLOCK_HEADS, HEAD
                )
                store_head(out, stride, mask, first, second, tail, HEAD)


def norm_backward_kernel(
    q,  # before their norms
    k,
    dq,  # gradients of what was made of them
    dk,
    dv,
    dq_out,
    dk_out,
    dv_out,
    q_weight,  # None: no norm
    k_weight,
    dweights,  # (programs, 2, D): sums over the tokens of each program
    phases_ptr,
    positions_ptr,
    offsets_ptr,
    cu_seqlens_ptr,
    strides,  # of q and k, each (batch, token, head, component); None: all are contiguous
    grad_strides,  # of dq, dk and dv
    out_strides,
    placement_strides,  # of what there is of these: (batch, token), or (entry, 0)
    n_tokens,
    seq_len,
    n_boundaries,
    search_steps,
    n_blocks,
    cos_factor: tl.float64,
    sin_factor: tl.float64,
    eps: tl.float64,
    N_HEADS: tl.constexpr,  # of q, k and v
    HEAD: tl.constexpr,  # see load_head
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,  # of q, k and v
    SHARES: tl.constexpr,  # how many blocks of heads there are of each
    SINES: tl.constexpr,  # see cos_sin
):
    """The derivative of rotate_kernel with norms, and a copy of dv.

    With y = R(w · x̂) and x̂ = x / rms(x): g = R⁻¹ dy, dw = Σ g · x̂ and
    dx = (w · g - x̂ · mean(w · g · x̂)) / rms(x). x̂ is computed again: x has to be read anyway.
    Every program takes many blocks of tokens, so that few sums of dw are left to be added up.
    """
    precision: tl.constexpr = tl.float64 if SINES[0] else tl.float32
    inputs, weights = (q, k, None), (q_weight, k_weight, None)
    grads, outputs = (dq, dk, dv), (dq_out, dk_out, dv_out)
    for i in tl.static_range(3):  # q, k, v
        if weights[i] is not None:
            w_first, w_second, w_tail = load_weight(weights[i], HEAD)
            w_first, w_second = w_first.to(precision), w_second.to(precision)
            w_tail = w_tail.to(precision)
            dw_first = tl.full((BLOCK_HEADS[i], BLOCK_TOKENS, HEAD[3]), 0, precision)
            dw_second, dw_tail = dw_first, dw_first
            if HEAD[4] > 0:
                dw_tail = tl.full((BLOCK_HEADS[i], BLOCK_TOKENS, HEAD[4]), 0, precision)
        for token_block in range(tl.program_id(0), n_blocks, tl.num_programs(0)):
            token = token_block * BLOCK_TOKENS + tl.arange(0, BLOCK_TOKENS)  # (T,)
            place = place_of(token, n_tokens, seq_len, False)
            if i < 2:
                position = positions_of(
                    place,
                    positions_ptr,
                    placement_strides,
                    offsets_ptr,
                    cu_seqlens_ptr,
                    n_boundaries,
                    search_steps,
                )
                cos, sin = cos_sin(position, phases_ptr, cos_factor, sin_factor, HEAD, SINES)
            for share in range(SHARES[i]):
                grad, stride, mask = heads_of(
                    grads[i], grad_strides, i, place, share, N_HEADS, BLOCK_HEADS, HEAD
                )
                first, second, tail = load_head(grad, stride, mask, HEAD)
                if i < 2:
                    first, second = rotated(first, second, cos, sin)
                if weights[i] is not None:
                    x, stride, mask = heads_of(
                        inputs[i], strides, i, place, share, N_HEADS, BLOCK_HEADS, HEAD
                    )
                    x_first, x_second, x_tail = load_head(x, stride, mask, HEAD)
                    x_first, x_second = x_first.to(precision), x_second.to(precision)
                    x_tail, tail = x_tail.to(precision), tail.to(precision)
                    square = mean_of_products(
                        x_first, x_second, x_tail, x_first, x_second, x_tail, HEAD
                    )
                    scale = 1.0 / tl.sqrt(square + tl.full((1, 1, 1), eps, precision))
                    x_first, x_second, x_tail = x_first * scale, x_second * scale, x_tail * scale
                    dw_first += first * x_first
                    dw_second += second * x_second
                    first, second = first * w_first, second * w_second
                    if HEAD[4] > 0:
                        dw_tail += tail * x_tail
                        tail = tail * w_tail
                    mean = mean_of_products(first, second, tail, x_first, x_second, x_tail, HEAD)
                    first = (first - x_first * mean) * scale
                    second = (second - x_second * mean) * scale
                    tail = (tail - x_tail * mean) * scale
                out, stride, mask = heads_of(
                    outputs[i], out_strides, i, place, share, N_HEADS, BLOCK_HEADS, HEAD
                )
                store_head(out, stride, mask, first, second, tail, HEAD)
        if weights[i] is not None:
            partial = dweights + (tl.program_id(0) * 2 + i) * HEAD[0]
            store_weight(partial, dw_first, dw_second, dw_tail, HEAD)
