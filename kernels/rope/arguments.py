"""The arguments of a rotation: what they are handed on as, and what every backend asks of them.

All backends refuse the same mistakes in the same words. Nothing here reads a value from a tensor:
on a GPU that would wait for the device.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs (rotary_dim / 2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .phases import DEFAULT_THETA, MAX_ROTARY_DIM, phases_from_theta, rope_phases

SAME_MEMORY = "q and k are the same memory: each must have its own, in place"
KERNEL_DEVICES = ("cpu", "cuda")  # Triton's interpreter, and its compiler
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Placement(NamedTuple):
    """Where tokens stand; at most one is given, none means 0 ... S - 1 in every sequence."""

    positions: Tensor | None = None  # (S,) or (B, S), int32 or int64: of every token
    offsets: Tensor | None = None  # (B,), int32 or int64: where each sequence starts
    cu_seqlens: Tensor | None = None  # (segments + 1,), int32 or int64: positions restart at each


class Rotation(NamedTuple):
    """How q and k are to be rotated, from the entry points down to the launch of a kernel.

    The fields stand in the order in which operators take them: `operator(q, k, *rotation)`.
    """

    phases: Tensor  # (P,) int64
    positions: Tensor | None  # these three: a Placement
    offsets: Tensor | None
    cu_seqlens: Tensor | None
    interleaved: bool  # pairs are (2i, 2i + 1), otherwise (i, i + P)
    attention_factor: float  # multiplies cosine and sine
    backwards: bool = False  # turn by the negative angles: the derivative of the rotation

    @property
    def placement(self) -> Placement:
        return Placement(self.positions, self.offsets, self.cu_seqlens)


class Norms(NamedTuple):
    """RMS norms of the heads of q and k before their rotation."""

    q_weight: Tensor | None = None  # (D,); None: no norm
    k_weight: Tensor | None = None
    eps: float = 0.0  # added to the mean square

    def exist(self) -> bool:
        return self.q_weight is not None or self.k_weight is not None


def checked_rotation(
    q: Tensor,
    k: Tensor,
    seq_len: int | None,
    theta: float,
    placement: Placement,
    inv_freq: Tensor | None,
    phases: Tensor | None,
    interleaved: bool,
    attention_factor: float,
) -> Rotation:
    """The rotation that these arguments ask for, its phases dense and on q's device.

    Raises:
        ValueError: an argument breaks a rule of `rope_triton`.
    """
    check_tensors(q, k, seq_len)
    check_placement(placement, q)
    check_frequencies(q, theta, inv_freq, phases)
    check_factor(attention_factor)
    if not isinstance(interleaved, bool):
        raise ValueError(f"interleaved={interleaved}: must be True or False")
    if inv_freq is not None:
        phases = rope_phases(inv_freq)
    if phases is None:
        phases = phases_from_theta(q.shape[3], theta, q.device)
    else:
        phases = phases.to(q.device).contiguous()
    return Rotation(phases, *placement, interleaved, attention_factor)


def split_heads(qkv: Tensor, n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of qkv (B, S, (H + 2 H_kv) D): q (B, S, H, D), k and v (B, S, H_kv, D)."""
    heads = (n_heads, n_kv_heads, n_kv_heads)
    return qkv.unflatten(-1, (sum(heads), -1)).split(heads, dim=2)


def check_tensors(q: Tensor, k: Tensor, seq_len: int | None) -> None:
    """Refuse q and k that are not (B, S, H, D) of one dtype, device, batch, length and head_dim."""
    _check_data("q", q, "(batch, seq_len, heads, head_dim)")
    _check_data("k", k, "(batch, seq_len, heads, head_dim)")
    if q.dtype != k.dtype:
        raise ValueError(f"q is {q.dtype} and k is {k.dtype}: must be of one dtype")
    if q.device != k.device:
        raise ValueError(f"q is on {q.device} and k is on {k.device}: must be on one device")
    for dim, name in ((0, "batch"), (1, "seq_len"), (3, "head_dim")):
        if q.shape[dim] != k.shape[dim]:
            raise ValueError(f"{name} is {q.shape[dim]} in q and {k.shape[dim]} in k: must be one")
    _check_head_dim(q.shape[3])
    if isinstance(seq_len, Tensor) or (seq_len is not None and seq_len != q.shape[1]):
        raise ValueError(f"seq_len={seq_len}: must be that of q and k, {q.shape[1]}, or None")


def check_packed(
    qkv: Tensor,
    n_heads: int,
    n_kv_heads: int,
    q_norm: Tensor | None,
    k_norm: Tensor | None,
    eps: float,
) -> int:
    """Refuse a qkv that does not hold whole heads, or norms that do not fit them: head_dim."""
    _check_data("qkv", qkv, "(batch, seq_len, (n_heads + 2 n_kv_heads) head_dim)")
    _check_counts(n_heads, n_kv_heads)
    heads = n_heads + 2 * n_kv_heads
    if qkv.shape[2] % heads:
        raise ValueError(
            f"qkv has shape {tuple(qkv.shape)}: its last dimension must be a multiple of"
            f" n_heads + 2 n_kv_heads = {heads}"
        )
    head_dim = qkv.shape[2] // heads
    _check_head_dim(head_dim)
    _check_norm("q_norm", q_norm, head_dim, qkv.device)
    _check_norm("k_norm", k_norm, head_dim, qkv.device)
    if not _is_number(eps) or not 0 <= eps < float("inf"):
        raise ValueError(f"eps={eps}: must be a finite number, at least 0")
    return head_dim


def check_projection(x: Tensor, weight: Tensor, n_heads: int, n_kv_heads: int) -> int:
    """Refuse a weight that does not project x, or not to whole heads: head_dim."""
    _check_data("x", x, "(batch, seq_len, d_model)")
    _check_data("weight", weight, "((n_heads + 2 n_kv_heads) head_dim, d_model)")
    _check_counts(n_heads, n_kv_heads)
    heads, shape = n_heads + 2 * n_kv_heads, tuple(weight.shape)
    if weight.shape[1] != x.shape[2]:
        raise ValueError(
            f"weight has shape {shape}: its last dimension must be that of x, {x.shape[2]}"
        )
    if weight.shape[0] % heads:
        raise ValueError(
            f"weight has shape {shape}: its first dimension must be a multiple of"
            f" n_heads + 2 n_kv_heads = {heads}"
        )
    if weight.device != x.device:
        raise ValueError(f"weight is on {weight.device}: must be on x's device, {x.device}")
    if linear_dtype(weight) != linear_dtype(x):
        raise ValueError(f"weight is {weight.dtype} and x is {x.dtype}: must be of one dtype")
    _check_head_dim(weight.shape[0] // heads)
    return weight.shape[0] // heads


def linear_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which F.linear takes x: autocast's, where that is at work."""
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return x.dtype


def _check_counts(n_heads: int, n_kv_heads: int) -> None:
    for name, count in (("n_heads", n_heads), ("n_kv_heads", n_kv_heads)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name}={count}: must be a positive integer")


def _check_data(name: str, x: Tensor, layout: str) -> None:
    """Refuse what no backend reads: other dimensions than the layout's, or other dtypes."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} is {type(x).__name__}: must be a tensor")
    if x.dim() != layout.count(",") + 1:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: must be {layout}")
    if x.dtype not in DTYPES:
        raise ValueError(f"{name} is {x.dtype}: must be float64, float32, float16 or bfloat16")


def check_kernel_device(q: Tensor) -> None:
    """Refuse tensors on a device that Triton has no kernels for."""
    if q.device.type not in KERNEL_DEVICES:
        raise ValueError(
            f"q is on {q.device}: must be on a CPU or a CUDA device; elsewhere rope_pytorch works"
        )


def _check_head_dim(head_dim: int) -> None:
    if head_dim % 2 or head_dim == 0:
        raise ValueError(f"head_dim={head_dim}: must be even and positive, to be made of pairs")


def _check_norm(name: str, weight: Tensor | None, head_dim: int, device: torch.device) -> None:
    """Refuse a weight that is not (D,), of any dtype that data may have, on the data's device."""
    if weight is None:
        return
    _check_data(name, weight, "(head_dim)")
    if weight.shape[0] != head_dim:
        shape = tuple(weight.shape)
        raise ValueError(f"{name} has shape {shape}: must be (head_dim,) = ({head_dim},)")
    if weight.device != device:
        raise ValueError(f"{name} is on {weight.device}: must be on qkv's device, {device}")


def check_placement(placement: Placement, q: Tensor) -> None:
    """Refuse more than one of positions, offsets and cu_seqlens, and one that does not fit q."""
    given = [name for name in Placement._fields if getattr(placement, name) is not None]
    if len(given) > 1:
        names = " and ".join(given[:2])
        raise ValueError(f"{names} are both given: at most one may say where tokens stand")
    for name in given:
        _check_integers(name, getattr(placement, name), q.device)
    batch, seq_len = q.shape[0], q.shape[1]
    positions, offsets, cu_seqlens = placement
    if positions is not None and positions.shape not in ((seq_len,), (batch, seq_len)):
        raise ValueError(
            f"positions has shape {tuple(positions.shape)}: must be (seq_len,) = ({seq_len},)"
            f" or (batch, seq_len) = ({batch}, {seq_len})"
        )
    if offsets is not None and offsets.shape != (batch,):
        shape = tuple(offsets.shape)
        raise ValueError(f"offsets has shape {shape}: must be (batch,) = ({batch},)")
    if cu_seqlens is not None and (cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 2):
        shape = tuple(cu_seqlens.shape)
        raise ValueError(f"cu_seqlens has shape {shape}: must be (segments + 1,), two or more")
    if cu_seqlens is not None and batch != 1:
        raise ValueError(f"batch is {batch} with cu_seqlens given: must be 1, one packed row")


def _check_integers(name: str, given: Tensor, device: torch.device) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} is {type(given).__name__}: must be a tensor or None")
    if given.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} is {given.dtype}: must be int32 or int64")
    if given.device != device:
        raise ValueError(f"{name} is on {given.device}: must be on q's device, {device}")


def check_frequencies(
    q: Tensor, theta: float, inv_freq: Tensor | None, phases: Tensor | None
) -> None:
    """Refuse more than one of theta, inv_freq and phases, and any of a wrong dtype or shape."""
    if inv_freq is None and phases is None:
        if q.shape[3] > MAX_ROTARY_DIM:
            raise ValueError(
                f"head_dim={q.shape[3]}: at most {MAX_ROTARY_DIM} components can be rotated;"
                " give inv_freq or phases for fewer of them"
            )
        if not _is_number(theta) or not 0 < theta < float("inf"):
            raise ValueError(f"theta={theta}: must be a positive finite number, Python's")
        return
    if inv_freq is not None and phases is not None:
        raise ValueError("inv_freq and phases are both given: must be one or the other")
    name, given, dtype = "phases", phases, torch.int64
    if inv_freq is not None:
        name, given, dtype = "inv_freq", inv_freq, torch.float64
    if theta != DEFAULT_THETA:
        raise ValueError(f"theta={theta} with {name} given: {name} already holds the frequencies")
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} is {type(given).__name__}: must be a tensor")
    if given.dtype != dtype:
        raise ValueError(f"{name} is {given.dtype}: must be {dtype}")
    if given.dim() != 1 or given.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(given.shape)}: must be (rotary_dim / 2,)")
    rotary_dim = 2 * given.shape[0]
    if rotary_dim > q.shape[3]:
        raise ValueError(
            f"{name} is for rotary_dim={rotary_dim}: must be at most head_dim={q.shape[3]}"
        )
    if rotary_dim > MAX_ROTARY_DIM:
        raise ValueError(f"{name} is for rotary_dim={rotary_dim}: must be at most {MAX_ROTARY_DIM}")


def _is_number(value: object) -> bool:
    """A number of Python's: a tensor's value may change, and would have to be read.

    An integer has to fit into 64 bits, or torch could not multiply by it.
    """
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def check_factor(attention_factor: float) -> None:
    """Refuse an attention factor that is not a finite number."""
    infinity = float("inf")
    if not _is_number(attention_factor) or not -infinity < attention_factor < infinity:
        raise ValueError(f"attention_factor={attention_factor}: must be a finite number, Python's")


def check_own_memory(q: Tensor, k: Tensor) -> None:
    """Refuse to write where one element stands for several."""
    for name, x in (("q", q), ("k", k)):
        if is_expanded(x):
            raise ValueError(f"{name} has stride {x.stride()}: must not be expanded, in place")
    if q is k:
        raise ValueError(SAME_MEMORY)


def is_expanded(x: Tensor) -> bool:
    """Whether one element in memory stands for several of x."""
    return any(n > 1 and step == 0 for n, step in zip(x.shape, x.stride(), strict=True))


def check_gradient_in_place(q: Tensor, k: Tensor) -> None:
    """Refuse to write where autograd cannot follow; one of q and k requires a gradient."""
    for name, x in (("q", q), ("k", k)):
        if x._is_view() or (x.requires_grad and x.is_leaf):
            what = "a view" if x._is_view() else "a leaf"
            what += " that requires" if x.requires_grad else " beside one that requires"
            raise ValueError(
                f"{name} is {what} a gradient: cannot be rotated in place; use rope_triton, or"
                " rope_qkv for a projection"
            )
