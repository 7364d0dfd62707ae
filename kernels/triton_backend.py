"""RoPE by the Triton kernel: the public function, its derivatives, and its custom operator.

The rotation is linear and orthogonal (up to attention_factor), so its derivative is the rotation
by the negative angles. Forward, backward, backward of the backward and forward-mode derivative
are therefore one kernel, and nothing is kept for them but phases and positions.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs, V an axis of torch.func.vmap.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from kernels.rotation import checked_phases


def rope_triton(
    q: Tensor,  # (B, S, H, D)
    k: Tensor,  # (B, S, H_kv, D)
    seq_len: int | None = None,
    theta: float = 10000.0,
    *,
    positions: Tensor | None = None,
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
        inv_freq: float64 (P,), radians per position, taken as exact. With 2P < D the first 2P
            components of a head rotate and the others pass through. 2P is at most 512.
        phases: `rope_phases(inv_freq)` in its place, int64 (P,).
        interleaved: pairs are (2i, 2i + 1) as in RoFormer, otherwise (i, i + P) as in Llama.
        attention_factor: multiplies cosine and sine (YaRN, arXiv 2309.00071, section 3.4).

    Returns:
        The rotated q and k, new tensors of the same shape and dtype.

    Raises:
        ValueError: an argument breaks one of these rules, or triton is not installed.
    """
    phases = checked_phases(q, k, seq_len, theta, positions, inv_freq, phases, attention_factor)
    if torch.compiler.is_compiling():
        rotation = torch.ops.ropewalk.rotate
        return rotation(q, k, phases, positions, interleaved, attention_factor, False)
    return _Rotation.apply(q, k, phases, positions, interleaved, attention_factor, False)


@functools.cache
def _kernel():
    """The launch of the kernel: triton is imported when a rotation first asks for it."""
    if importlib.util.find_spec("triton") is None:
        raise ValueError("rope_triton: triton is not installed here; rope_pytorch works")
    from kernels.triton_kernel import launch

    return launch


class _Rotation(torch.autograd.Function):
    """The rotation in eager mode, where autograd.Function is the cheapest dispatch there is."""

    @staticmethod
    def forward(q, k, phases, positions, interleaved, factor, backwards):
        return _kernel()(q, k, phases, positions, interleaved, factor, backwards)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        _, _, phases, positions, *options = inputs
        ctx.save_for_backward(phases, positions)
        ctx.save_for_forward(phases, positions)
        ctx.options = options

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        interleaved, factor, backwards = ctx.options
        arguments = (*ctx.saved_tensors, interleaved, factor, not backwards)
        return (*_Rotation.apply(grad_q, grad_k, *arguments), *[None] * 5)

    @staticmethod
    def jvp(ctx, tangent_q, tangent_k, *_):
        return _Rotation.apply(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)

    @staticmethod
    def vmap(info, in_dims, q, k, phases, positions, *options):
        """Vectorized axes join the batch: the kernel wants no more axes than it has."""
        q_dim, k_dim, phases_dim, positions_dim, *_ = in_dims
        if phases_dim is not None:
            raise ValueError("phases under vmap: must be the same for all, not an axis of vmap")
        q, k = (
            _leading(x, dim, info.batch_size) for x, dim in ((q, q_dim), (k, k_dim))
        )  # (V, B, S, H, D)
        if positions_dim is not None or (positions is not None and positions.dim() == 2):
            positions = _leading(positions, positions_dim, info.batch_size)  # (V, S), (V, B, S)
            positions = positions.view(info.batch_size, -1, q.shape[2])
            positions = positions.expand(q.shape[:3]).flatten(0, 1)
        rotated = _Rotation.apply(q.flatten(0, 1), k.flatten(0, 1), phases, positions, *options)
        return tuple(x.unflatten(0, (info.batch_size, -1)) for x in rotated), (0, 0)


def _leading(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The vmapped axis of x in front, or x repeated along a new one where it has none."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


# The same rotation as an opaque operator, for graphs that torch.compile captures. Its derivatives
# are an autograd.Function too: torch.library.register_autograd knows no forward mode, and a
# missing one gives a silent zero there.
_library = torch.library.Library("ropewalk", "FRAGMENT")
_library.define(
    "rotate(Tensor q, Tensor k, Tensor phases, Tensor? positions, bool interleaved, float factor,"
    " bool backwards) -> (Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)


class _OpRotation(_Rotation):
    """Derivatives of the operator, by the operator."""

    @staticmethod
    def forward(*arguments):
        with torch._C._AutoDispatchBelowAutograd():
            return torch.ops.ropewalk.rotate(*arguments)

    @staticmethod
    def backward(ctx, grad_q, grad_k):
        interleaved, factor, backwards = ctx.options
        arguments = (*ctx.saved_tensors, interleaved, factor, not backwards)
        return (*torch.ops.ropewalk.rotate(grad_q, grad_k, *arguments), *[None] * 5)

    @staticmethod
    def jvp(ctx, tangent_q, tangent_k, *_):
        return torch.ops.ropewalk.rotate(tangent_q, tangent_k, *ctx.saved_tensors, *ctx.options)


def _rotate_op(*arguments):
    return _kernel()(*arguments)


for _key in ("CPU", "CUDA"):
    _library.impl("rotate", _rotate_op, _key)
_library.impl("rotate", lambda *arguments: _OpRotation.apply(*arguments), "Autograd")


@torch.library.register_fake("ropewalk::rotate", lib=_library)
def _(q, k, phases, positions, interleaved, factor, backwards):
    return torch.empty_like(q), torch.empty_like(k)
