"""The entry points: RoPE by the Triton kernel, what is known of earlier calls, and the backends.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from ..operators import OPS
from .arguments import (
    KERNEL_DEVICES,
    Placement,
    Rotation,
    check_gradient_in_place,
    check_kernel_device,
    check_own_memory,
    checked_rotation,
)
from .autograd import (
    HAS_TRITON,
    FunctionalRotation,
    is_opaque,
    kernel_calls,
    needs_transform,
    rotate_by_kernel,
    rotate_eagerly,
    rotate_eagerly_in_place,
    rotate_in_place,
)
from .reference import rope_pytorch

if TYPE_CHECKING:
    from ..launch import Launch

_MOST_KNOWN = 4096  # calls that are kept

# Rotation(*fields) without the Python frame of a NamedTuple's constructor: for every call.
_rotation_of = cast(
    Callable[[tuple[Any, ...]], Rotation], functools.partial(tuple.__new__, Rotation)
)


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
    the angle m · inv_freq[i], which is exact (phases.py). Its sine is computed in float32, in
    float64 for float64 tensors, and by the GPU's own unit for 16-bit ones (wrong by up to 1e-6).
    The result is rounded once. The inputs are not modified.

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
        rotation = checked_rotation(
            q, k, seq_len, theta, placement, inv_freq, phases, interleaved, attention_factor
        )
        check_kernel_device(q)
        return OPS.rotate(q, k, *rotation)
    where = (positions, offsets, cu_seqlens)
    numbers = (seq_len, theta, interleaved, attention_factor)
    phases, launch = _call(q, k, where, inv_freq, phases, numbers, False)
    rotation = _rotation_of((phases, *where, interleaved, attention_factor, False))
    if needs_transform():
        return FunctionalRotation.apply(q, k, *rotation)
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        return rotate_eagerly(q, k, rotation, launch)
    return rotate_by_kernel(q, k, rotation, launch)


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
    overwrite_gradients: bool = False,
) -> tuple[Tensor, Tensor]:
    """Rotate q and k where they lie, in memory that the caller owns; returns q and k.

    Arguments are those of `rope_triton`, and one more. A gradient flows through tensors that an
    operation made, not through views of them: for slices of a projection there is `rope_qkv`.

    Args:
        overwrite_gradients: the gradients that come back are rotated where they lie as well. The
            caller promises that nobody else holds them: an attention makes dq and dk for nobody
            but this rotation, but both terms of a sum are given one and the same gradient. Holders
            are hooks too, and whoever asks for the gradients of the rotated q and k themselves or
            gives the same ones twice. (Expanded gradients, or one for both q and k, are rotated
            into new memory all the same.)

    Raises:
        ValueError: as `rope_triton`; for expanded tensors, one tensor as both, or slices with heads
            in common (other overlaps are not found); for leaves or views where a gradient is
            required.
    """
    if is_opaque(q, k):
        placement = Placement(positions, offsets, cu_seqlens)
        rotation = checked_rotation(
            q, k, seq_len, theta, placement, inv_freq, phases, interleaved, attention_factor
        )
        check_kernel_device(q)
        check_own_memory(q, k)
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
            raise ValueError(
                "q or k requires a gradient: a compiled graph cannot rotate it in place; use"
                " rope_triton"
            )
        if q._base is None and k._base is None:
            OPS.rotate_(q, k, *rotation)
        else:  # Inductor forgets where views begin, of symbolic shapes, that an operator writes to
            rotated = OPS.rotate_apart(q, k, *rotation)
            q.copy_(rotated[0])
            k.copy_(rotated[1])
        return q, k
    where = (positions, offsets, cu_seqlens)
    numbers = (seq_len, theta, interleaved, attention_factor)
    phases, launch = _call(q, k, where, inv_freq, phases, numbers, True)
    if needs_transform():
        raise ValueError("rope_triton_ under torch.func: cannot write in place; use rope_triton")
    rotation = _rotation_of((phases, *where, interleaved, attention_factor, False))
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad):
        check_gradient_in_place(q, k)
        return rotate_eagerly_in_place(q, k, rotation, launch, overwrite_gradients)
    rotate_in_place(q, k, rotation, launch)
    return q, k


class _Call(NamedTuple):
    """What is known of a call whose arguments were found to be good."""

    phases: Tensor | None  # in the place of what was given; None: what was given is right
    launch: Launch


_known_calls: dict[tuple[object, ...], _Call] = {}


def _call(
    q: Tensor,
    k: Tensor,
    where: tuple[Tensor | None, Tensor | None, Tensor | None],  # positions, offsets, cu_seqlens
    inv_freq: Tensor | None,
    phases: Tensor | None,
    numbers: tuple[Any, ...],  # seq_len, theta, interleaved, attention_factor
    in_place: bool,
) -> tuple[Tensor, Launch | None]:
    """Phases for these arguments, and the launch, which on a GPU is kept from call to call.

    All that the checks and the launch depend on is the key: of a tensor, everything but its values.
    """
    key = None
    if inv_freq is None and q.is_cuda and k.is_cuda:
        positions, offsets, cu_seqlens = where
        key = (
            (q.shape, q.stride(), q.dtype, q.get_device()),
            (k.shape, k.stride(), k.dtype, k.get_device()),
            None if phases is None else _kind(phases),
            None if positions is None else _kind(positions),
            None if offsets is None else _kind(offsets),
            None if cu_seqlens is None else _kind(cu_seqlens),
            numbers,
            in_place,
        )
        try:
            known = _known_calls.get(key)
        except TypeError:  # an argument that cannot be a key is not a good one
            known = None
        if known is not None:
            kept, launch = known
            if kept is not None:
                return kept, launch
            assert phases is not None
            return phases, launch
    return _new_call(q, k, Placement(*where), inv_freq, phases, numbers, in_place, key)


def _kind(x: object) -> object:
    return (x.shape, x.stride(), x.dtype, x.get_device()) if isinstance(x, Tensor) else type(x)


def _new_call(
    q: Tensor,
    k: Tensor,
    placement: Placement,
    inv_freq: Tensor | None,
    phases: Tensor | None,
    numbers: tuple[Any, ...],
    in_place: bool,
    key: tuple[object, ...] | None,
) -> tuple[Tensor, Launch | None]:
    """The same for a call that is not known: it is checked, and kept under `key`, if any."""
    seq_len, theta, interleaved, factor = numbers
    rotation = checked_rotation(
        q, k, seq_len, theta, placement, inv_freq, phases, interleaved, factor
    )
    check_kernel_device(q)
    if in_place:
        check_own_memory(q, k)
    good = rotation.phases
    # Phases that have to be moved have to be so in every call; and a transform's strides are not
    # those that a launch will find.
    if key is None or not (phases is None or good is phases) or needs_transform():
        return good, None
    outputs = (q, k) if in_place else (torch.empty_like(q), torch.empty_like(k))
    launch = kernel_calls().rotation_launch((q, k), outputs, rotation)
    if launch is not None:
        if len(_known_calls) >= _MOST_KNOWN:
            _known_calls.clear()
        _known_calls[key] = _Call(None if good is phases else good, launch)
    return good, launch


_BACKENDS = {"triton": rope_triton, "pytorch": rope_pytorch}
BACKENDS: tuple[str, ...] = tuple(_BACKENDS)


def resolve_backend(name: str, device: torch.device | str) -> str:
    """The name of the backend that will run on `device`.

    Args:
        name: one of BACKENDS, or "auto": Triton on a CUDA device where triton is installed,
            PyTorch elsewhere.
        device: where q and k will be.

    Raises:
        ValueError: there is no such backend, or it needs triton, and there is none, or none for
            such a device.
    """
    if name == "auto":
        on_cuda = torch.device(device).type == "cuda"
        return "triton" if on_cuda and HAS_TRITON else "pytorch"
    if name not in BACKENDS:
        close = difflib.get_close_matches(str(name), (*BACKENDS, "auto"), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"backend={name}: must be one of auto, {', '.join(BACKENDS)}{hint}")
    kind = torch.device(device).type
    if name == "triton" and kind not in KERNEL_DEVICES:
        raise ValueError(f"backend=triton: there are no kernels for {kind}; pytorch works")
    if name == "triton" and not HAS_TRITON:
        raise ValueError("backend=triton: triton is not installed here; pytorch works")
    return name


def rotate(q: Tensor, k: Tensor, *args: Any, backend: str, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Rotate q and k by the backend of that name; all other arguments as `rope_triton`'s."""
    function = _BACKENDS.get(backend)
    if function is None:
        function = _BACKENDS[resolve_backend(backend, q.device)]
    return function(q, k, *args, **kwargs)
