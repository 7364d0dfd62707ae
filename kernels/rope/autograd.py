"""The rotation by its kernel: derivatives, and operators for graphs, around the launch.

The rotation is linear and orthogonal (up to attention_factor), so its derivative is the rotation
by the negative angles. Forward, backward, backward of the backward and forward-mode derivative
are therefore one kernel, and nothing is kept for them but phases and positions.

Shapes: B batch, S sequence, H heads, D head_dim, V an axis of torch.func.vmap.
"""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..operators import LIBRARY, OPS, define
from .arguments import SAME_MEMORY, Placement, Rotation, is_expanded
from .reference import token_positions

if TYPE_CHECKING:
    from ..launch import Launch

# Looked up once and without importing it: a look-up on the call path would break fullgraph.
HAS_TRITON = importlib.util.find_spec("triton") is not None
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
    """The calls of the kernels (triton/plan.py), imported when a rotation first asks for them.

    Raises:
        ValueError: triton is not installed.
    """
    if not HAS_TRITON:
        raise ValueError("rope_triton: triton is not installed here; rope_pytorch works")
    from .triton import plan

    return plan


def rotate_by_kernel(
    q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None = None
) -> tuple[Tensor, Tensor]:
    """q and k (B, S, H, D) rotated into new tensors; `launch` is one that is known to fit."""
    if launch is not None:
        phases, positions, offsets, cu_seqlens, _, _, _ = rotation
        q_out, k_out = torch.empty_like(q), torch.empty_like(k)
        launch(q, k, None, q_out, k_out, None, phases, positions, offsets, cu_seqlens)
        return q_out, k_out
    q, k = q.resolve_neg(), k.resolve_neg()  # kernels read memory as it is
    outputs = torch.empty_like(q), torch.empty_like(k)
    kernel_calls().rotate_into((q, k), outputs, rotation)
    return outputs


def rotate_in_place(q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None = None) -> None:
    """The same into q and k, which must not share memory."""
    if _share_heads(q, k):
        raise ValueError(SAME_MEMORY)
    _overwrite(q, k, rotation, launch)


def _overwrite(q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None = None) -> None:
    """A negative that is only noted stays so: the rotation is linear."""
    if launch is not None:
        phases, positions, offsets, cu_seqlens, _, _, _ = rotation
        launch(q, k, None, q, k, None, phases, positions, offsets, cu_seqlens)
    else:
        kernel_calls().rotate_into((q, k), (q, k), rotation)
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

    `rotation` is one argument: each one costs. Its forward takes ctx: a setup_context would make
    `apply` look up the signature in every call.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None
    ) -> tuple[Tensor, Tensor]:
        _keep(ctx, rotation)
        return rotate_by_kernel(q, k, rotation, launch)

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Any, ...]:
        rotation = _reverse_of_kept(ctx)
        if torch.is_grad_enabled():  # derivatives of this are wanted in turn
            return (*EagerRotation.apply(grad_q, grad_k, rotation, None), None, None)
        return (*rotate_by_kernel(grad_q, grad_k, rotation), None, None)


class InPlaceRotation(torch.autograd.Function):
    """The rotation into its own inputs; the gradients' into theirs, if they may be overwritten."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        rotation: Rotation,
        launch: Launch | None,
        overwrite_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        _keep(ctx, rotation)
        ctx.overwrite_gradients = overwrite_gradients
        rotate_in_place(q, k, rotation, launch)
        ctx.mark_dirty(q, k)
        return q, k

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Any, ...]:
        owned = ctx.overwrite_gradients and not torch.is_grad_enabled()
        owned = owned and not (is_expanded(grad_q) or is_expanded(grad_k))
        if not owned or _share_heads(grad_q, grad_k):
            return (*EagerRotation.backward(ctx, grad_q, grad_k), None)
        _overwrite(grad_q, grad_k, _reverse_of_kept(ctx))
        return grad_q, grad_k, None, None, None


# What Function.apply does beyond this is for the transforms of torch.func, and costs more than the
# rest. Under them FunctionalRotation is called instead; a tensor that outlived its transform may
# still come here, and is unwrapped.
_apply = super(torch.autograd.Function, EagerRotation).apply
_apply_in_place = super(torch.autograd.Function, InPlaceRotation).apply
_unwrap = torch._C._functorch.unwrap_if_dead


def rotate_eagerly(
    q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None
) -> tuple[Tensor, Tensor]:
    """`rotate_by_kernel` with a gradient."""
    return _apply(_unwrap(q), _unwrap(k), rotation, launch)


def rotate_eagerly_in_place(
    q: Tensor, k: Tensor, rotation: Rotation, launch: Launch | None, overwrite_gradients: bool
) -> tuple[Tensor, Tensor]:
    """`rotate_in_place` with a gradient."""
    return _apply_in_place(_unwrap(q), _unwrap(k), rotation, launch, overwrite_gradients)


def _keep(ctx: Any, rotation: tuple[Any, ...]) -> None:
    """Keep a rotation, or its fields, for the backward pass."""
    phases, positions, offsets, cu_seqlens, *ctx.options = rotation
    ctx.save_for_backward(phases, positions, offsets, cu_seqlens)


def _reverse_of_kept(ctx: Any) -> Rotation:
    """The rotation by the negative angles of the one that was kept."""
    phases, positions, offsets, cu_seqlens = ctx.saved_tensors
    interleaved, factor, backwards = ctx.options
    return Rotation(phases, positions, offsets, cu_seqlens, interleaved, factor, not backwards)


class FunctionalRotation(torch.autograd.Function):
    """The rotation under the transforms of torch.func and in forward mode.

    Its arguments are q, k and a rotation's fields: a transform looks for tensors among arguments.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, *rotation: Any) -> tuple[Tensor, Tensor]:
        return rotate_by_kernel(q, k, Rotation(*rotation))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _keep(ctx, inputs[2:])
        ctx.save_for_forward(*inputs[2:6])

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Any, ...]:
        rotated = FunctionalRotation.apply(grad_q, grad_k, *_reverse_of_kept(ctx))
        return (*rotated, *[None] * len(Rotation._fields))

    @staticmethod
    def jvp(ctx: Any, tangent_q: Tensor, tangent_k: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        return FunctionalRotation.apply(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], q: Tensor, k: Tensor, *rotation: Any
    ) -> tuple[Any, ...]:
        """Vectorized axes join the batch: the kernel wants no more axes than it has."""
        size = info.batch_size
        q, k = _leading(q, in_dims[0], size), _leading(k, in_dims[1], size)  # (V, B, S, H, D)
        dims = dict(zip(Rotation._fields, in_dims[2:], strict=True))
        joined = _with_joined_batch(Rotation(*rotation), dims, q)
        rotated = FunctionalRotation.apply(q.flatten(0, 1), k.flatten(0, 1), *joined)
        return tuple(x.unflatten(0, (size, -1)) for x in rotated), (0, 0)


def _with_joined_batch(rotation: Rotation, dims: dict[str, int | None], q: Tensor) -> Rotation:
    """A rotation of q (V, B, S, H, D), for the batch V·B; `dims`: where its fields have V."""
    for name in ("phases", "cu_seqlens"):
        if dims[name] is not None:
            raise ValueError(f"{name} under vmap: must be the same for all, not an axis of vmap")
    size, batch, seq_len = q.shape[:3]
    positions, offsets, cu_seqlens = rotation.placement
    if cu_seqlens is not None:
        placement = Placement(cu_seqlens=cu_seqlens)
        positions, cu_seqlens = token_positions(seq_len, placement, q.device), None
    if positions is not None and (dims["positions"] is not None or positions.dim() == 2):
        positions = _leading(positions, dims["positions"], size)  # (V, S) or (V, B, S)
        positions = positions.view(size, -1, seq_len)
        positions = positions.expand(size, batch, seq_len).flatten(0, 1)
    if offsets is not None:
        offsets = _leading(offsets, dims["offsets"], size).flatten()  # (V, B)
    return Rotation(rotation.phases, positions, offsets, cu_seqlens, *rotation[4:])


def _leading(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The vmapped axis of x in front, or x repeated along a new one where it has none."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


# The same rotation as opaque operators, for graphs that torch.compile captures.


def _rotate_operator(q: Tensor, k: Tensor, *rotation: Any) -> tuple[Tensor, Tensor]:
    return rotate_by_kernel(q, k, Rotation(*rotation))


def _rotate_operator_apart(q: Tensor, k: Tensor, *rotation: Any) -> tuple[Tensor, Tensor]:
    if _share_heads(q, k):
        raise ValueError(SAME_MEMORY)
    return rotate_by_kernel(q, k, Rotation(*rotation))


def _rotate_operator_in_place(q: Tensor, k: Tensor, *rotation: Any) -> None:
    rotate_in_place(q, k, Rotation(*rotation))


def _empty(q: Tensor, k: Tensor, *rotation: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(q), torch.empty_like(k)


ROTATION_SCHEMA = (
    "Tensor phases, Tensor? positions, Tensor? offsets, Tensor? cu_seqlens, bool interleaved,"
    " float attention_factor, bool backwards"
)
define(
    f"rotate(Tensor q, Tensor k, {ROTATION_SCHEMA}) -> (Tensor, Tensor)", _rotate_operator, _empty
)
define(  # for views, which are then overwritten
    f"rotate_apart(Tensor q, Tensor k, {ROTATION_SCHEMA}) -> (Tensor, Tensor)",
    _rotate_operator_apart,
    _empty,
)
define(
    f"rotate_(Tensor(a!) q, Tensor(b!) k, {ROTATION_SCHEMA}) -> ()",
    _rotate_operator_in_place,
    lambda q, k, *rotation: None,
)


class _OperatorRotation(FunctionalRotation):
    """Derivatives of the first operator, by the operator.

    torch.library.register_autograd knows no forward mode, and would give a silent zero there.
    """

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            return OPS.rotate(*arguments)

    @staticmethod
    def backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Any, ...]:
        rotated = OPS.rotate(grad_q, grad_k, *_reverse_of_kept(ctx))
        return (*rotated, *[None] * len(Rotation._fields))

    @staticmethod
    def jvp(ctx: Any, tangent_q: Tensor, tangent_k: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        return OPS.rotate(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)


LIBRARY.impl("rotate", _OperatorRotation.apply, "Autograd")
