"""The packed operator: from the output of a fused QKV projection to q, k and v, ready to attend.

A kernel that only rotates reads and writes q and k, and autograd then joins three gradients into
one. Here the norms of the heads and the rotation share one pass over q and k, v stays where it is,
and the backward pass writes the joined gradient itself, rotated back and differentiated.

Shapes: B batch, S sequence, C d_model, H heads of q, H_kv heads of k and v, D head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.gemm.projection import can_project, project
from kernels.rope.api import rope_triton
from kernels.rope.arguments import Placement, check_packed, check_projection, linear_dtype
from kernels.rope.autograd import is_opaque, kernel_calls, needs_transform
from kernels.rope.backends import resolve_backend
from kernels.rope.reference import normed, packed_pytorch
from kernels.rope.rotation import checked, split_heads


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
            F.linear; autocast casts both. Where it can (kernels/gemm/projection.py: Hopper,
            bfloat16, heads of 64, no norms, tokens counted from 0), the projection's own GEMM
            rotates.
        The others are those of `rope_triton`.

    Returns:
        q (B, S, H, D) and k (B, S, H_kv, D), new; v (B, S, H_kv, D), a view of qkv. Of a GEMM that
        rotates: views of what it wrote, all three.

    Raises:
        ValueError: an argument breaks one of these rules.
    """
    placement = Placement(positions, offsets, cu_seqlens)
    if weight is not None:
        heads = (n_heads, n_kv_heads)
        head_dim = check_projection(qkv, weight, *heads)
        plain = all(given is None for given in (q_norm, k_norm, *placement))
        if plain and _rotates_in_gemm(qkv, weight, *heads, inv_freq, phases, backend):
            q, k = (qkv[..., :1, None].expand(-1, -1, n, head_dim) for n in heads)  # of their shape
            phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
            tensors = (qkv.to(linear_dtype(qkv)), weight.to(linear_dtype(weight)), phases)
            return _Projected.apply(*tensors, *heads, interleaved, attention_factor)
        qkv = F.linear(qkv, weight)
    check_packed(qkv, n_heads, n_kv_heads, q_norm, k_norm, eps)
    qkv = qkv.resolve_neg()  # kernels read memory as it is
    q, k, v = split_heads(qkv, n_heads, n_kv_heads)
    phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
    norms = (q_norm, k_norm, eps)
    if resolve_backend(backend, qkv.device) == "pytorch":
        return packed_pytorch(
            qkv, n_heads, n_kv_heads, phases, placement, interleaved, attention_factor, *norms
        )
    if needs_transform():
        options = {"phases": phases, "interleaved": interleaved}
        options |= {"attention_factor": attention_factor, **placement._asdict()}
        q, k = normed(q, q_norm, eps), normed(k, k_norm, eps)
        q, k = (x.to(qkv.dtype) for x in rope_triton(*_of_one_dtype(q, k), **options))
        return q, k, v
    options = (phases, *placement, n_heads, n_kv_heads, interleaved, attention_factor, eps)
    return _Packed.apply(qkv, q_norm, k_norm, *options)


def _rotates_in_gemm(x, weight, n_heads, n_kv_heads, inv_freq, phases, backend) -> bool:
    """Whether the operator of the projection is the one to call."""
    if resolve_backend(backend, x.device) != "triton":
        return False
    if needs_transform():
        return False
    frequencies = phases if inv_freq is None else inv_freq
    if not (frequencies is None or isinstance(frequencies, Tensor)):
        return False  # to be refused, as everywhere
    return can_project(x, weight, n_heads, n_kv_heads, frequencies)


def _of_one_dtype(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Of which only one may be normalised, and so not yet rounded."""
    dtype = torch.promote_types(q.dtype, k.dtype)
    return q.to(dtype), k.to(dtype)


class _Packed(torch.autograd.Function):
    """Two operators and a view: an operator may not return v, which lies within its argument."""

    @staticmethod
    def forward(ctx, qkv, q_norm, k_norm, *options):
        phases, positions, offsets, cu_seqlens, *ctx.options = options
        has_norm = q_norm is not None or k_norm is not None
        ctx.save_for_backward(
            qkv if has_norm else None, q_norm, k_norm, phases, positions, offsets, cu_seqlens
        )
        forward = torch.ops.ropewalk.qkv if is_opaque(qkv) else _forward
        q, k = forward(qkv, q_norm, k_norm, *options)
        n_heads, n_kv_heads = ctx.options[:2]
        return q, k, split_heads(qkv, n_heads, n_kv_heads)[2]

    @staticmethod
    def backward(ctx, dq, dk, dv):
        saved = ctx.saved_tensors  # a checkpoint gives them out once
        dqkv, dq_norm, dk_norm = _gradients(dq, dk, dv, *saved, *ctx.options)
        dq_norm, dk_norm = (
            None if weight is None else gradient
            for weight, gradient in zip(saved[1:3], (dq_norm, dk_norm), strict=True)
        )
        return (dqkv, dq_norm, dk_norm, *[None] * 9)


class _Projected(torch.autograd.Function):
    """Projection and rotation by one operator, and views of what it wrote."""

    @staticmethod
    def forward(ctx, x, weight, phases, *options):
        ctx.options = options
        ctx.save_for_backward(x, weight, phases)
        forward = torch.ops.ropewalk.project if is_opaque(x, weight) else project
        return split_heads(forward(x, weight, phases, *options), *options[:2])

    @staticmethod
    def backward(ctx, dq, dk, dv):
        x, weight, phases = ctx.saved_tensors
        no_norm, everywhere = (None, None, None), (None, None, None)
        dqkv, *_ = _gradients(dq, dk, dv, *no_norm, phases, *everywhere, *ctx.options, 0.0)
        dx = dqkv @ weight if ctx.needs_input_grad[0] else None
        dweight = None
        if ctx.needs_input_grad[1]:
            dweight = dqkv.flatten(0, 1).t() @ x.flatten(0, 1)
        return (dx, dweight, *[None] * 5)


def _gradients(dq, dk, dv, *arguments):
    """Of qkv and of the norms' weights, by whatever may compute them here."""
    if torch.is_grad_enabled():  # derivatives of this are wanted in turn
        return _differentiable_backward(dq, dk, dv, *arguments)
    if is_opaque(dq, dk, dv):
        return torch.ops.ropewalk.qkv_backward(dq, dk, dv, *arguments)
    return _backward(dq, dk, dv, *arguments)


def _differentiable_backward(
    dq, dk, dv, qkv, q_norm, k_norm, phases, positions, offsets, cu_seqlens, *options
):
    """What qkv_backward computes, by operations that autograd can differentiate again."""
    n_heads, n_kv_heads, interleaved, factor, eps = options
    rotation = torch.ops.ropewalk.rotate
    where = (phases, positions, offsets, cu_seqlens)
    dtype = torch.promote_types(dv.dtype, torch.float32)  # rounded once, at the end
    dq, dk = rotation(dq.to(dtype), dk.to(dtype), *where, interleaved, factor, True)
    dq_norm = dk_norm = None
    if qkv is not None:
        q, k, _ = split_heads(qkv, n_heads, n_kv_heads)
        dq, dq_norm = _norm_backward(dq, q.to(dtype), q_norm, eps)
        dk, dk_norm = _norm_backward(dk, k.to(dtype), k_norm, eps)
    dqkv = torch.cat((dq.to(dv.dtype), dk.to(dv.dtype), dv), dim=2).flatten(-2)
    return dqkv, dq_norm, dk_norm


def _norm_backward(g: Tensor, x: Tensor, weight: Tensor | None, eps: float):
    """Gradients of x and weight (D,), for y = x / rms(x) · weight and the gradient g of y."""
    if weight is None:
        return g, None
    scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    unit, product = x * scale, g * weight.to(g.dtype)
    dx = (product - unit * (unit * product).mean(-1, keepdim=True)) * scale
    return dx, (g * unit).sum((0, 1, 2)).to(weight.dtype)


_library = torch.library.Library("ropewalk", "FRAGMENT")
_ROTATION = (
    "Tensor? q_norm, Tensor? k_norm, Tensor phases, Tensor? positions, Tensor? offsets,"
    " Tensor? cu_seqlens, int n_heads, int n_kv_heads, bool interleaved, float factor, float eps"
)
_library.define(
    f"qkv(Tensor qkv, {_ROTATION}) -> (Tensor, Tensor)", tags=torch.Tag.pt2_compliant_tag
)
_library.define(
    f"qkv_backward(Tensor dq, Tensor dk, Tensor dv, Tensor? qkv, {_ROTATION})"
    " -> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)


def _forward(
    qkv, q_norm, k_norm, phases, positions, offsets, cu_seqlens, n_heads, n_kv_heads, *options
):
    interleaved, factor, eps = options
    placement = Placement(positions, offsets, cu_seqlens)
    calls = kernel_calls()
    q, k, _ = split_heads(qkv, n_heads, n_kv_heads)
    outputs = _like(q), _like(k)
    rotation = calls.Rotation(phases, placement, interleaved, factor, False)
    calls.rotate_into((q, k), outputs, rotation, calls.Norm(*_dense(q_norm, k_norm), eps))
    return outputs


def _backward(dq, dk, dv, qkv, q_norm, k_norm, phases, positions, offsets, cu_seqlens, *options):
    n_heads, n_kv_heads, interleaved, factor, eps = options
    placement = Placement(positions, offsets, cu_seqlens)
    calls = kernel_calls()
    rotation = calls.Rotation(phases, placement, interleaved, factor, True)
    dq, dk, dv = (gradient.resolve_neg() for gradient in (dq, dk, dv))
    dqkv, dq_norm, dk_norm = _empty_gradients(dq, dk, q_norm, k_norm)
    outputs = split_heads(dqkv, n_heads, n_kv_heads)
    if qkv is None:
        calls.rotate_into((dq, dk, dv), outputs, rotation)
        return dqkv, dq_norm, dk_norm
    q, k, _ = split_heads(qkv, n_heads, n_kv_heads)
    norm = calls.Norm(*_dense(q_norm, k_norm), eps)
    dweights = calls.rotate_norms_backward((q, k), (dq, dk, dv), outputs, rotation, norm)
    for gradient, row in ((dq_norm, dweights[0]), (dk_norm, dweights[1])):
        if gradient.numel():
            gradient.copy_(row)
    return dqkv, dq_norm, dk_norm


def _like(x: Tensor) -> Tensor:
    """A dense tensor of x's shape: x itself is a slice of a projection."""
    return x.new_empty(x.shape)


def _dense(q_norm: Tensor | None, k_norm: Tensor | None) -> list[Tensor | None]:
    return [None if weight is None else weight.contiguous() for weight in (q_norm, k_norm)]


def _empty_gradients(dq: Tensor, dk: Tensor, q_norm: Tensor | None, k_norm: Tensor | None):
    """dqkv (B, S, (H + 2 H_kv) D), and gradients of the weights, empty where there is none."""
    batch, seq_len, n_heads, head_dim = dq.shape
    width = (n_heads + 2 * dk.shape[2]) * head_dim
    dqkv = dq.new_empty(batch, seq_len, width)
    norms = (dq.new_empty(0) if w is None else w.new_empty(w.shape) for w in (q_norm, k_norm))
    return (dqkv, *norms)


for _key in ("CPU", "CUDA"):
    _library.impl("qkv", _forward, _key)
    _library.impl("qkv_backward", _backward, _key)


@torch.library.register_fake("ropewalk::qkv", lib=_library)
def _(qkv, q_norm, k_norm, phases, positions, offsets, cu_seqlens, n_heads, n_kv_heads, *options):
    q, k, _ = split_heads(qkv, n_heads, n_kv_heads)
    return _like(q), _like(k)


@torch.library.register_fake("ropewalk::qkv_backward", lib=_library)
def _(dq, dk, dv, qkv, q_norm, k_norm, *options):
    return _empty_gradients(dq, dk, q_norm, k_norm)
