"""RoPE by the Triton kernel: the public functions, their derivatives, and their operators.

The rotation is linear and orthogonal (up to attention_factor), so its derivative is the rotation
by the negative angles. Forward, backward, backward of the backward and forward-mode derivative
are therefore one kernel, and nothing is kept for them but phases and positions.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs, V an axis of torch.func.vmap.
"""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kernels.arguments import SAME_MEMORY, Placement, check_gradient_in_place, check_own_memory
from kernels.rotation import checked, token_positions

if TYPE_CHECKING:
    from kernels.triton_launch import Launch

_MOST_KNOWN = 4096  # calls that are kept


def rope_triton(
    q: Tensor,  # (B, S, H, D)
    k: Tensor,  # (B, S, H_kv, D)
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
) -> tuple[Tensor, Tensor]:
    """Rotate q and k by their positions (RoFormer, arXiv 2104.09864), both by one kernel launch.

    The pair (x, y) number i of a head at position m becomes (x·cos - y·sin, x·sin + y·cos) of
    the angle m · inv_freq[i], computed exactly (kernels/phases.py) in float32, in float64 for
    float64 tensors, and rounded once. The inputs are not modified.

    Args:
        q: (B, S, H, D), float64, float32, float16 or bfloat16, on a CPU or a CUDA device, of any
            strides. On a CPU the kernel runs in Triton's interpreter.
        k: (B, S, H_kv, D), of q's dtype and device; the number of heads may differ.
        seq_len: S, or None. It says nothing new; given, it is checked.
        theta: base of the frequencies theta^(-2i/D), where neither inv_freq nor phases is given.
        positions: int32 or int64 (S,) or (B, S), of any sign; None means 0 ... S - 1.
        cu_seqlens: int32 or int64 (segments + 1,), for a batch of 1 that packs several sequences:
            the index where each starts, and their end. Positions count from 0 in each.
        offsets: int32 or int64 (B,): the position of each sequence's first token, the length of
            its cache when decoding. At most one of positions, cu_seqlens and offsets is given.
        inv_freq: float64 (P,), radians per position, taken as exact. With 2P < D the first 2P
            components of a head rotate and the others pass through. 2P is at most 512.
        phases: `rope_phases(inv_freq)` in its place, int64 (P,): made once, it saves every call
            some twenty small kernels.
        interleaved: pairs are (2i, 2i + 1) as in RoFormer, otherwise (i, i + P) as in Llama.
        attention_factor: multiplies cosine and sine (YaRN, arXiv 2309.00071, section 3.4).

    Returns:
        The rotated q and k, new tensors of the same shape and dtype.

    Raises:
        ValueError: an argument breaks one of these rules, or triton is not installed.
    """
    if is_opaque(q, k) or q.is_neg() or k.is_neg():
        placement = Placement(positions, offsets, cu_seqlens)
        phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
        options = (phases, *placement, interleaved, attention_factor)
        return torch.ops.ropewalk.rotate(q, k, *options, False)
    if inv_freq is not None:
        placement = Placement(positions, offsets, cu_seqlens)
        phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
    key = (
        (q.shape, q.stride(), q.dtype, q.device, k.shape, k.stride(), k.dtype, k.device),
        (seq_len, theta, interleaved, attention_factor),
        None if phases is None else _kind(phases),
        None if positions is None else _kind(positions),
        None if offsets is None else _kind(offsets),
        None if cu_seqlens is None else _kind(cu_seqlens),
    )
    try:
        known = _known_calls.get(key)
    except TypeError:  # an argument that cannot be a key is not a good one
        known = None
    if known is None:
        placement = Placement(positions, offsets, cu_seqlens)
        known = _new_call(key, q, k, theta, placement, phases)
    if known.phases is not None:
        phases = known.phases
    rotation = (phases, positions, offsets, cu_seqlens, interleaved, attention_factor, False)
    if needs_transform():
        return _FunctionalRotation.apply(q, k, *rotation)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        return _Rotation.apply(q, k, *rotation, known.launch)
    return _rotate(q, k, *rotation, known.launch)


def rope_triton_(
    q: Tensor,  # (B, S, H, D)
    k: Tensor,  # (B, S, H_kv, D)
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
) -> tuple[Tensor, Tensor]:
    """Rotate q and k where they lie, in memory that the caller owns; returns q and k.

    Arguments are those of `rope_triton`. A gradient flows through tensors that an operation made,
    not through views of them: for slices of a projection there is `rope_qkv`.

    Raises:
        ValueError: as `rope_triton`; for expanded tensors, one tensor as both, or slices with heads
            in common (other overlaps are not found); for leaves or views where a gradient is
            required.
    """
    placement = Placement(positions, offsets, cu_seqlens)
    phases = checked(q, k, seq_len, theta, placement, inv_freq, phases, attention_factor)
    check_own_memory(q, k)
    options = (phases, *placement, interleaved, attention_factor)
    wants_gradient = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    if is_opaque(q, k):
        if wants_gradient:
            raise ValueError(
                "q or k requires a gradient: a compiled graph cannot rotate it in place; use"
                " rope_triton"
            )
        torch.ops.ropewalk.rotate_(q, k, *options)
    elif needs_transform():
        raise ValueError("rope_triton_ under torch.func: cannot write in place; use rope_triton")
    elif wants_gradient:
        check_gradient_in_place(q, k)
        return _InPlaceRotation.apply(q, k, *options)
    else:
        _rotate_in_place(q, k, *options)
    return q, k


_PLAIN = (Tensor, torch.nn.Parameter)


def is_opaque(*tensors: Tensor) -> bool:
    """Whether an operator has to stand for the kernel: while a graph is traced, and for subclasses.

    Fake tensors have no memory to be read, and other subclasses have a dispatch of their own.
    """
    for x in tensors:
        if type(x) not in _PLAIN:
            return True
    return torch.compiler.is_compiling()


def needs_transform() -> bool:
    """Whether torch.func or forward-mode differentiation is at work, which want more than grad."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


@functools.cache
def kernel_calls() -> ModuleType:
    """The calls of the kernels: triton is imported when a rotation first asks for it."""
    if importlib.util.find_spec("triton") is None:
        raise ValueError("rope_triton: triton is not installed here; rope_pytorch works")
    from kernels import triton_rotate

    return triton_rotate


class _Call(NamedTuple):
    """What is known of a call whose arguments were found to be good."""

    phases: Tensor | None  # in the place of what was given
    launch: Launch | None  # on a GPU


_known_calls: dict[tuple[object, ...], _Call] = {}


def _new_call(key, q, k, theta, placement: Placement, phases: Tensor | None) -> _Call:
    """Check the arguments, and remember what the next call with ones of their kind can skip."""
    seq_len, _, interleaved, factor = key[1]
    good = checked(q, k, seq_len, theta, placement, None, phases, factor)
    launch = None
    if q.device.type == "cuda":
        calls = kernel_calls()
        rotation = calls.Rotation(good, placement, interleaved, factor, False)
        launch = calls.rotate_launch((q, k), (torch.empty_like(q), torch.empty_like(k)), rotation)
    call = _Call(None if good is phases else good, launch)
    # Not what every call has to do anew, move phases; nor what is seen under a transform, where
    # the strides are not those that a launch will find.
    if (phases is None or good is phases) and not needs_transform():
        if len(_known_calls) >= _MOST_KNOWN:
            _known_calls.clear()
        _known_calls[key] = call
    return call


def _kind(x: Tensor | None) -> object:
    return (x.shape, x.stride(), x.dtype, x.device) if isinstance(x, Tensor) else type(x)


def _rotate(
    q, k, phases, positions, offsets, cu_seqlens, interleaved, factor, backwards, launch=None
) -> tuple[Tensor, Tensor]:
    if launch is not None:
        q_out, k_out = torch.empty_like(q), torch.empty_like(k)
        tensors = (q, k, None, q_out, k_out, None, None, None)
        launch(*tensors, phases, positions, offsets, cu_seqlens)
        return q_out, k_out
    calls = kernel_calls()
    placement = Placement(positions, offsets, cu_seqlens)
    return calls.rotate(q, k, calls.Rotation(phases, placement, interleaved, factor, backwards))


def _rotate_in_place(q, k, phases, positions, offsets, cu_seqlens, interleaved, factor) -> None:
    if _share_heads(q, k):
        raise ValueError(SAME_MEMORY)
    calls = kernel_calls()
    placement = Placement(positions, offsets, cu_seqlens)
    rotation = calls.Rotation(phases, placement, interleaved, factor, False)
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


class _Rotation(torch.autograd.Function):
    """The rotation in eager mode, where autograd.Function is the cheapest dispatch there is.

    Its forward takes ctx: a setup_context would make `apply` look up the signature in every call.
    """

    @staticmethod
    def forward(ctx, q, k, *arguments):
        _keep(ctx, arguments[:-1])
        return _rotate(q, k, *arguments)  # the last is the launch, if it is known

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        *options, backwards = ctx.options
        arguments = (*ctx.saved_tensors, *options, not backwards)
        if torch.is_grad_enabled():  # derivatives of this are wanted in turn
            return (*_Rotation.apply(grad_q, grad_k, *arguments, None), *[None] * 8)
        return (*_rotate(grad_q, grad_k, *arguments), *[None] * 8)


class _InPlaceRotation(torch.autograd.Function):
    """The rotation into its own inputs."""

    @staticmethod
    def forward(ctx, q, k, *arguments):
        _keep(ctx, (*arguments, False))
        _rotate_in_place(q, k, *arguments)
        ctx.mark_dirty(q, k)
        return q, k

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        return _Rotation.backward(ctx, grad_q, grad_k)[:8]


def _keep(ctx, arguments) -> None:
    phases, positions, offsets, cu_seqlens, *ctx.options = arguments
    ctx.save_for_backward(phases, positions, offsets, cu_seqlens)


class _FunctionalRotation(torch.autograd.Function):
    """The rotation under the transforms of torch.func and in forward mode."""

    @staticmethod
    def forward(*arguments):
        return _rotate(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _keep(ctx, inputs[2:])
        ctx.save_for_forward(*inputs[2:6])

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        *options, backwards = ctx.options
        arguments = (*ctx.saved_tensors, *options, not backwards)
        return (*_FunctionalRotation.apply(grad_q, grad_k, *arguments), *[None] * 7)

    @staticmethod
    def jvp(ctx, tangent_q, tangent_k, *_):
        return _FunctionalRotation.apply(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)

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
        rotated = _FunctionalRotation.apply(q.flatten(0, 1), k.flatten(0, 1), *arguments)
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


class _OpRotation(_FunctionalRotation):
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
    _library.impl("rotate", lambda *arguments: _rotate(*arguments), _key)
    _library.impl("rotate_", lambda *arguments: _rotate_in_place(*arguments), _key)
_library.impl("rotate", lambda *arguments: _OpRotation.apply(*arguments), "Autograd")


@torch.library.register_fake("ropewalk::rotate", lib=_library)
def _(q, k, *arguments):
    return torch.empty_like(q), torch.empty_like(k)


@torch.library.register_fake("ropewalk::rotate_", lib=_library)
def _(q, k, *arguments):
    return None
