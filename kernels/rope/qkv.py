"""The packed operator: from the output of a fused QKV projection to q, k and v, ready to attend.

A kernel that only rotates reads and writes q and k, and autograd then joins three gradients into
one. Here the norms of the heads and the rotation share one pass over q and k, v stays where it is,
and the backward pass writes the joined gradient itself, rotated back and differentiated.

Shapes: B batch, S sequence, C d_model, H heads of q, H_kv heads of k and v, D head_dim.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..gemm.projection import can_project, project
from ..operators import OPS, define
from .api import resolve_backend, rope_triton
from .arguments import (
    Norms,
    Placement,
    Rotation,
    check_packed,
    check_projection,
    checked_rotation,
    linear_dtype,
    split_heads,
)
from .autograd import ROTATION_SCHEMA, is_opaque, kernel_calls, needs_transform
from .reference import normed, normed_backward, packed_pytorch


def rope_qkv(
    qkv: Tensor,  # (B, S, (H + 2 H_kv) D); with a weight x (B, S, C)
    n_heads: int,
    n_kv_heads: int,
    seq_len: int | None = None,
    theta: float = 10000.0,
    *,
    positions: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    offsets: Tensor | None = None,
    inv_freq: Tensor | None = None,
    phases: Tensor | None = None,
    interleaved: bool = True,
    attention_factor: float = 1.0,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    backend: str = "auto",
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Split a projection into q, k and v; RMS-normalise (optionally) and rotate q and k.

    Norm (arXiv 1910.07467, over each head) and rotation are computed in float32, in float64 for
    float64 data, and rounded once; the sines are those of `rope_triton`.

    Args:
        qkv: (B, S, (H + 2 H_kv) D): all heads of q, then of k, then of v; any strides.
        n_heads, n_kv_heads: H and H_kv.
        q_norm, k_norm: weights (D,) of the norms of q and k, of any floating dtype; None: no norm.
        eps: added to the mean square.
        backend: "auto" (Triton on a CUDA device), "triton" or "pytorch".
        weight: ((H + 2 H_kv) D, C), and qkv is x (B, S, C) that has yet to be projected, by
            F.linear; autocast casts both. Where it can (gemm/projection.py: Hopper,
            bfloat16, heads of 64, no norms, tokens counted from 0), the projection's own GEMM
            rotates.
        The others are those of `rope_triton`.

    Returns:
        q (B, S, H, D) and k (B, S, H_kv, D), new; v (B, S, H_kv, D), a view of qkv. Of a GEMM that
        rotates: views of what it wrote, all three.

    Raises:
        ValueError: an argument breaks one of these rules.
    """
    placement, norms = Placement(positions, offsets, cu_seqlens), Norms(q_norm, k_norm, eps)
    frequencies = (inv_freq, phases, interleaved, attention_factor)
    if weight is not None:
        head_dim = check_projection(qkv, weight, n_heads, n_kv_heads)
        plain = not norms.exist() and all(given is None for given in placement)
        if plain and _rotates_in_gemm(qkv, weight, n_heads, n_kv_heads, inv_freq, phases, backend):
            q, k = (  # of the shapes that the projection will have
                qkv[..., :1, None].expand(-1, -1, n, head_dim) for n in (n_heads, n_kv_heads)
            )
            rotation = checked_rotation(q, k, seq_len, theta, placement, *frequencies)
            x, weight = qkv.to(linear_dtype(qkv)), weight.to(linear_dtype(weight))
            return _Projected.apply(x, weight, n_heads, n_kv_heads, *rotation)
        qkv = F.linear(qkv, weight)
    check_packed(qkv, n_heads, n_kv_heads, q_norm, k_norm, eps)
    qkv = qkv.resolve_neg()  # kernels read memory as it is
    q, k, v = split_heads(qkv, n_heads, n_kv_heads)
    rotation = checked_rotation(q, k, seq_len, theta, placement, *frequencies)
    if resolve_backend(backend, qkv.device) == "pytorch":
        return packed_pytorch(qkv, n_heads, n_kv_heads, rotation, norms)
    if needs_transform():
        return (*_normed_then_rotated(q, k, rotation, norms), v)
    return _Packed.apply(qkv, *norms, n_heads, n_kv_heads, *rotation)


def _rotates_in_gemm(
    x: Tensor,
    weight: Tensor,
    n_heads: int,
    n_kv_heads: int,
    inv_freq: Tensor | None,
    phases: Tensor | None,
    backend: str,
) -> bool:
    """Whether the operator of the projection is the one to call."""
    if resolve_backend(backend, x.device) != "triton":
        return False
    if needs_transform():
        return False
    frequencies = phases if inv_freq is None else inv_freq
    if not (frequencies is None or isinstance(frequencies, Tensor)):
        return False  # to be refused, as everywhere
    return can_project(x, weight, n_heads, n_kv_heads, frequencies)


def _normed_then_rotated(
    q: Tensor, k: Tensor, rotation: Rotation, norms: Norms
) -> tuple[Tensor, Tensor]:
    """For the transforms of torch.func, of which the rotation alone knows."""
    dtype = q.dtype
    q, k = normed(q, norms.q_weight, norms.eps), normed(k, norms.k_weight, norms.eps)
    wide = torch.promote_types(q.dtype, k.dtype)  # only one may be normed, and so not yet rounded
    q, k = rope_triton(
        q.to(wide),
        k.to(wide),
        **rotation.placement._asdict(),
        phases=rotation.phases,
        interleaved=rotation.interleaved,
        attention_factor=rotation.attention_factor,
    )
    return q.to(dtype), k.to(dtype)


def _parsed(
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
    n_heads: int,
    n_kv_heads: int,
    *rotation: Any,
) -> tuple[Norms, tuple[int, int], Rotation]:
    """Of `how`, all arguments after the data, as operators take them: flat."""
    return Norms(q_norm, k_norm, eps), (n_heads, n_kv_heads), Rotation(*rotation)


class _Packed(torch.autograd.Function):
    """Two operators and a view: an operator may not return v, which lies within its argument."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, *how: Any) -> tuple[Tensor, Tensor, Tensor]:
        norms, ctx.heads, rotation = _parsed(*how)
        ctx.eps, ctx.options = norms.eps, rotation[4:]
        kept = qkv if norms.exist() else None
        ctx.save_for_backward(kept, norms.q_weight, norms.k_weight, *rotation[:4])
        q, k = OPS.qkv(qkv, *how) if is_opaque(qkv) else _forward(qkv, norms, ctx.heads, rotation)
        return q, k, split_heads(qkv, *ctx.heads)[2]

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Any, ...]:
        # A checkpoint gives them out once.
        qkv, q_norm, k_norm, phases, positions, offsets, cu_seqlens = ctx.saved_tensors
        norms = Norms(q_norm, k_norm, ctx.eps)
        interleaved, factor, backwards = ctx.options
        where = (positions, offsets, cu_seqlens)
        rotation = Rotation(phases, *where, interleaved, factor, not backwards)
        dqkv, dq_norm, dk_norm = _gradients(dq, dk, dv, qkv, norms, ctx.heads, rotation)
        dq_norm = None if q_norm is None else dq_norm
        dk_norm = None if k_norm is None else dk_norm
        return (dqkv, dq_norm, dk_norm, *[None] * 10)


class _Projected(torch.autograd.Function):
    """Projection and rotation by one operator, and views of what it wrote."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, n_heads: int, n_kv_heads: int, *rotation: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        phases, _, _, _, interleaved, factor, _ = rotation
        ctx.heads, ctx.options = (n_heads, n_kv_heads), (interleaved, factor)
        ctx.save_for_backward(x, weight, phases)
        forward = OPS.project if is_opaque(x, weight) else project
        out = forward(x, weight, phases, *ctx.heads, *ctx.options)
        return split_heads(out, *ctx.heads)

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Any, ...]:
        x, weight, phases = ctx.saved_tensors
        interleaved, factor = ctx.options
        rotation = Rotation(phases, *Placement(), interleaved, factor, True)
        dqkv, *_ = _gradients(dq, dk, dv, None, Norms(), ctx.heads, rotation)
        dx = dqkv @ weight if ctx.needs_input_grad[0] else None
        dweight = None
        if ctx.needs_input_grad[1]:
            dweight = dqkv.flatten(0, 1).t() @ x.flatten(0, 1)
        return (dx, dweight, *[None] * 9)


def _gradients(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    qkv: Tensor | None,  # without norms, whose derivatives alone need it, None
    norms: Norms,
    heads: tuple[int, int],
    rotation: Rotation,  # backwards
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Of qkv and of the norms' weights, by whatever may compute them here."""
    if torch.is_grad_enabled():  # derivatives of this are wanted in turn
        return _differentiable_backward(dq, dk, dv, qkv, norms, heads, rotation)
    if is_opaque(dq, dk, dv):
        return OPS.qkv_backward(dq, dk, dv, qkv, *norms, *heads, *rotation)
    return _backward(dq, dk, dv, qkv, norms, heads, rotation)


def _differentiable_backward(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    qkv: Tensor | None,
    norms: Norms,
    heads: tuple[int, int],
    rotation: Rotation,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """What `_backward` computes, by operations that autograd can differentiate again."""
    dtype = torch.promote_types(dv.dtype, torch.float32)  # rounded once, at the end
    dq, dk = OPS.rotate(dq.to(dtype), dk.to(dtype), *rotation)
    dq_norm = dk_norm = None
    if qkv is not None:
        q, k, _ = split_heads(qkv, *heads)
        dq, dq_norm = normed_backward(dq, q.to(dtype), norms.q_weight, norms.eps)
        dk, dk_norm = normed_backward(dk, k.to(dtype), norms.k_weight, norms.eps)
    dqkv = torch.cat((dq.to(dv.dtype), dk.to(dv.dtype), dv), dim=2).flatten(-2)
    return dqkv, dq_norm, dk_norm


def _forward(
    qkv: Tensor, norms: Norms, heads: tuple[int, int], rotation: Rotation
) -> tuple[Tensor, Tensor]:
    """q and k by the kernel, normalised and rotated."""
    q, k, _ = split_heads(qkv, *heads)
    outputs = _dense_like(q), _dense_like(k)
    kernel_calls().rotate_into((q, k), outputs, rotation, _dense(norms))
    return outputs


def _backward(
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    qkv: Tensor | None,
    norms: Norms,
    heads: tuple[int, int],
    rotation: Rotation,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of qkv and of the weights by the kernels."""
    dq, dk, dv = (gradient.resolve_neg() for gradient in (dq, dk, dv))
    gradients = dqkv, *dweights = _empty_gradients(dq, dk, norms)
    outputs = split_heads(dqkv, *heads)
    if qkv is None:
        kernel_calls().rotate_into((dq, dk, dv), outputs, rotation)
        return gradients
    q, k, _ = split_heads(qkv, *heads)
    rows = kernel_calls().rotate_norms_backward(
        (q, k), (dq, dk, dv), outputs, rotation, _dense(norms)
    )
    for dweight, row in zip(dweights, rows, strict=True):
        if dweight.numel():
            dweight.copy_(row)
    return gradients


def _dense_like(x: Tensor) -> Tensor:
    """A dense tensor of x's shape: x itself is a slice of a projection."""
    return x.new_empty(x.shape)


def _dense(norms: Norms) -> Norms:
    q, k, eps = norms
    return Norms(q if q is None else q.contiguous(), k if k is None else k.contiguous(), eps)


def _empty_gradients(dq: Tensor, dk: Tensor, norms: Norms) -> tuple[Tensor, Tensor, Tensor]:
    """dqkv (B, S, (H + 2 H_kv) D), and gradients of the weights, empty where there is none."""
    batch, seq_len, n_heads, head_dim = dq.shape
    dqkv = dq.new_empty(batch, seq_len, (n_heads + 2 * dk.shape[2]) * head_dim)
    dq_norm, dk_norm = (
        dq.new_empty(0) if weight is None else weight.new_empty(weight.shape)
        for weight in norms[:2]
    )
    return dqkv, dq_norm, dk_norm


# The two as opaque operators, for graphs that torch.compile captures.


def _fake_forward(qkv: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
    _, heads, _ = _parsed(*how)
    q, k, _ = split_heads(qkv, *heads)
    return _dense_like(q), _dense_like(k)


def _fake_backward(
    dq: Tensor, dk: Tensor, dv: Tensor, qkv: Tensor | None, *how: Any
) -> tuple[Tensor, Tensor, Tensor]:
    norms, _, _ = _parsed(*how)
    return _empty_gradients(dq, dk, norms)


_HOW = f"Tensor? q_norm, Tensor? k_norm, float eps, int n_heads, int n_kv_heads, {ROTATION_SCHEMA}"
define(
    f"qkv(Tensor qkv, {_HOW}) -> (Tensor, Tensor)",
    lambda qkv, *how: _forward(qkv, *_parsed(*how)),
    _fake_forward,
)
define(
    f"qkv_backward(Tensor dq, Tensor dk, Tensor dv, Tensor? qkv, {_HOW})"
    " -> (Tensor, Tensor, Tensor)",
    lambda dq, dk, dv, qkv, *how: _backward(dq, dk, dv, qkv, *_parsed(*how)),
    _fake_backward,
)
