"""The rotation's derivatives and operators, around the launch of its kernel.

The rotation is linear and orthogonal (up to attention_factor), so its derivative is the rotation
by the negative angles. Forward, backward, backward of the backward and forward-mode derivative
are therefore one kernel, and nothing is kept for them but phases and positions.

Shapes: B batch, S sequence, H heads, D head_dim, V an axis of torch.func.vmap.
"""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kernels.rope.arguments import SAME_MEMORY, Placement, is_expanded
from kernels.rope.rotation import token_positions

_PLAIN = (Tensor, torch.nn.Parameter)
_is_compiling = torch.compiler.is_compiling


def is_opaque(*tensors: Tensor) -> bool:
    """Whether an operator has to stand for the kernel: while a graph is traced, and for subclasses.

    Fake tensors have no memory to be read, and other subclasses have a dispatch of their own.
    """
    for x in tensors:
        if type(x) not in _PLAIN:
            return True
    return _is_compiling()


def needs_transform() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which want more than grad."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@functools.cache
def kernel_calls() -> ModuleType:
    """The calls of the kernels: triton is imported when a rotation first asks for it."""
    if importlib.util.find_spec("triton") is None:
        raise ValueError("rope_triton: triton is not installed here; rope_pytorch works")
    from kernels.rope.triton import plan

    return plan


def rotate(
    q, k, phases, positions, offsets, cu_seqlens, interleaved, factor, backwards, launch=None
) -> tuple[Tensor, Tensor]:
    if launch is not None:
        q_out, k_out = torch.empty_like(q), torch.empty_like(k)
        tensors = (q, k, None, q_out, k_out, None, None, None)
        launch(*tensors, phases, positions, offsets, cu_seqlens)
        return q_out, k_out
    q, k = q.resolve_neg(), k.resolve_neg()  # kernels read memory as it is
    placement = Placement(positions, offsets, cu_seqlens)
    calls = kernel_calls()
    return calls.rotate(q, k, calls.Rotation(phases, placement, interleaved, factor, backwards))


def rotate_in_place(q, k, *rotation) -> None:
    if _share_heads(q, k):
        raise ValueError(SAME_MEMORY)
    _overwrite(q, k, *rotation)


def _overwrite(
    q,
    k,
    phases,
    positions,
    offsets,
    cu_seqlens,
    interleaved,
    factor,
    backwards=False,
    launch=None,
) -> None:
    """A negative that is only noted stays so: the rotation is linear."""
    if launch is not None:
        launch(q, k, None, q, k, None, None, None, phases, positions, offsets, cu_seqlens)
    else:
        placement = Placement(positions, offsets, cu_seqlens)
        calls = kernel_calls()
        rotation = calls.Rotation(phases, placement, interleaved, factor, backwards)
        calls.rotate_into((q, k), (q, k), rotation)
    torch.autograd.graph.increment_version((q, k))


def _share_heads(q: Tensor, k: Tensor) -> bool:
    """Whether q and k (B, S, H, D) begin in one place, or are slices with heads in common."""
    if not q.numel() or not k.numel():
        return False
    if q.stride() != k.stride():
        return q.data_ptr() == k.data_ptr()
    distance = (k.data_ptr() - q.data_ptr()) // q.element_size()
    heads, rest = divmod(distance, q.stride(2) or 1)
    return rest == 0 and -k.shape[2] < heads < q.shape[2]


class EagerRotation(torch.autograd.Function):
    """The rotation in eager mode, where autograd.Function is the cheapest dispatch there is.

    `rotation` is one argument, a tuple: each one costs. Its forward takes ctx: a setup_context
    would make `apply` look up the signature in every call.
    """

    @staticmethod
    def forward(ctx, q, k, rotation, launch):
        _keep(ctx, rotation)
        return rotate(q, k, *rotation, launch)

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        *options, backwards = ctx.options
        rotation = (*ctx.saved_tensors, *options, not backwards)
        if torch.is_grad_enabled():  # derivatives of this are wanted in turn
            return (*EagerRotation.apply(grad_q, grad_k, rotation, None), None, None)
        return (*rotate(grad_q, grad_k, *rotation), None, None)


class InPlaceRotation(torch.autograd.Function):
    """The rotation into its own inputs; the gradients' into theirs, if they may be overwritten."""

    @staticmethod
    def forward(ctx, q, k, rotation, launch, overwrite_gradients):
        _keep(ctx, rotation)
        ctx.overwrite_gradients = overwrite_gradients
        rotate_in_place(q, k, *rotation, launch)
        ctx.mark_dirty(q, k)
        return q, k

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        owned = ctx.overwrite_gradients and not torch.is_grad_enabled()
        owned = owned and not (is_expanded(grad_q) or is_expanded(grad_k))
        if not owned or _share_heads(grad_q, grad_k):
            return (*EagerRotation.backward(ctx, grad_q, grad_k), None)
        *options, backwards = ctx.options
        _overwrite(grad_q, grad_k, *ctx.saved_tensors, *options, not backwards)
        return grad_q, grad_k, None, None, None


# What Function.apply does beyond this is for the transforms of torch.func, and costs more than the
# rest: under them FunctionalRotation is called, and of tensors that outlived them this is left.
_apply = super(torch.autograd.Function, EagerRotation).apply
_apply_in_place = super(torch.autograd.Function, InPlaceRotation).apply
_unwrap = torch._C._functorch.unwrap_if_dead


def rotate_eagerly(q, k, rotation, launch) -> tuple[Tensor, Tensor]:
    return _apply(_unwrap(q), _unwrap(k), rotation, launch)


def rotate_eagerly_in_place(q, k, rotation, launch, overwrite_gradients) -> tuple[Tensor, Tensor]:
    return _apply_in_place(_unwrap(q), _unwrap(k), rotation, launch, overwrite_gradients)


def _keep(ctx, arguments) -> None:
    phases, positions, offsets, cu_seqlens, *ctx.options = arguments
    ctx.save_for_backward(phases, positions, offsets, cu_seqlens)


class FunctionalRotation(torch.autograd.Function):
    """The rotation under the transforms of torch.func and in forward mode."""

    @staticmethod
    def forward(*arguments):
        return rotate(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _keep(ctx, inputs[2:])
        ctx.save_for_forward(*inputs[2:6])

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        *options, backwards = ctx.options
        arguments = (*ctx.saved_tensors, *options, not backwards)
        return (*FunctionalRotation.apply(grad_q, grad_k, *arguments), *[None] * 7)

    @staticmethod
    def jvp(ctx, tangent_q, tangent_k, *_):
        return FunctionalRotation.apply(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)

    @staticmethod
    def vmap(info, in_dims, q, k, phases, positions, offsets, cu_seqlens, *options):
        """Vectorized axes join the batch: the kernel wants no more axes than it has."""
        q_dim, k_dim, phases_dim, positions_dim, offsets_dim, cu_dim, *_ = in_dims
        for name, dim in (("phases", phases_dim), ("cu_seqlens", cu_dim)):
            if dim is not None:
                raise ValueError(
                    f"{name} under vmap: must be the same for all, not an axis of vmap"
                )
        size = info.batch_size
        q, k = _leading(q, q_dim, size), _leading(k, k_dim, size)  # (V, B, S, H, D)
        batch, seq_len = q.shape[1:3]
        if cu_seqlens is not None:
            placement = Placement(cu_seqlens=cu_seqlens)
            positions, cu_seqlens = token_positions(seq_len, placement, q.device), None
        if positions_dim is not None or (positions is not None and positions.dim() == 2):
            positions = _leading(positions, positions_dim, size)  # (V, S) or (V, B, S)
            positions = positions.view(size, -1, seq_len)
            positions = positions.expand(size, batch, seq_len).flatten(0, 1)
        if offsets is not None:
            offsets = _leading(offsets, offsets_dim, size).flatten()  # (V, B)
        arguments = (phases, positions, offsets, cu_seqlens, *options)
        rotated = FunctionalRotation.apply(q.flatten(0, 1), k.flatten(0, 1), *arguments)
        return tuple(x.unflatten(0, (size, -1)) for x in rotated), (0, 0)


def _leading(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The vmapped axis of x in front, or x repeated along a new one where it has none."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


# The same rotation as opaque operators, for graphs that torch.compile captures. The derivatives of
# the first are an autograd.Function too: torch.library.register_autograd knows no forward mode, and
# a missing one gives a silent zero there.
_library = torch.library.Library("ropewalk", "FRAGMENT")
_ROTATION = (
    "Tensor phases, Tensor? positions, Tensor? offsets, Tensor? cu_seqlens, bool interleaved,"
    " float factor"
)
_library.define(
    f"rotate(Tensor q, Tensor k, {_ROTATION}, bool backwards) -> (Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
_library.define(
    f"rotate_(Tensor(a!) q, Tensor(b!) k, {_ROTATION}) -> ()",
    tags=torch.Tag.pt2_compliant_tag,
)


class _OpRotation(FunctionalRotation):
    """Derivatives of the operator, by the operator."""

    @staticmethod
    def forward(*arguments):
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.ropewalk.rotate(*arguments)

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        *options, backwards = ctx.options
        arguments = (*ctx.saved_tensors, *options, not backwards)
        return (*torch.ops.ropewalk.rotate(grad_q, grad_k, *arguments), *[None] * 7)

    @staticmethod
    def jvp(ctx, tangent_q, tangent_k, *_):
        return torch.ops.ropewalk.rotate(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)


for _key in ("CPU", "CUDA"):
    _library.impl("rotate", rotate, _key)
    _library.impl("rotate_", rotate_in_place, _key)
_library.impl("rotate", _OpRotation.apply, "Autograd")


@torch.library.register_fake("ropewalk::rotate", lib=_library)
def _(q, k, *arguments):
    return torch.empty_like(q), torch.empty_like(k)


@torch.library.register_fake("ropewalk::rotate_", lib=_library)
def _(q, k, *arguments):
    return None
