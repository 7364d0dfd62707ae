"""What every backend asks of its arguments, in one place, so that all refuse the same mistakes.

Nothing here reads a value from a tensor: on a GPU that would wait for the device.

Shapes: B batch, S sequence, H heads, D head_dim, P rotated pairs (rotary_dim / 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

DEFAULT_THETA = 10000.0
MAX_ROTARY_DIM = 512
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensors(q: Tensor, k: Tensor, seq_len: int | None) -> None:
    """Refuse q and k that are not (B, S, H, D) of one dtype, device, batch, length and head_dim."""
    for name, x in (("q", q), ("k", k)):
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is {type(x).__name__}: must be a tensor")
        if x.dim() != 4:
            shape = tuple(x.shape)
            raise ValueError(f"{name} has shape {shape}: must be (batch, seq_len, heads, head_dim)")
        if x.dtype not in DTYPES:
            raise ValueError(f"{name} is {x.dtype}: must be float64, float32, float16 or bfloat16")
        if x.device.type not in ("cpu", "cuda"):
            raise ValueError(f"{name} is on {x.device}: must be on a CPU or a CUDA device")
    if q.dtype != k.dtype:
        raise ValueError(f"q is {q.dtype} and k is {k.dtype}: must be of one dtype")
    if q.device != k.device:
        raise ValueError(f"q is on {q.device} and k is on {k.device}: must be on one device")
    for dim, name in ((0, "batch"), (1, "seq_len"), (3, "head_dim")):
        if q.shape[dim] != k.shape[dim]:
            raise ValueError(f"{name} is {q.shape[dim]} in q and {k.shape[dim]} in k: must be one")
    if q.shape[3] % 2 or q.shape[3] == 0:
        raise ValueError(f"head_dim={q.shape[3]}: must be even and positive, to be made of pairs")
    if seq_len is not None and seq_len != q.shape[1]:
        raise ValueError(f"seq_len={seq_len}: must be that of q and k, {q.shape[1]}, or None")


def check_positions(positions: Tensor | None, q: Tensor) -> None:
    """Refuse positions that are not int32 or int64 (S,) or (B, S) on q's device."""
    if positions is None:
        return
    if not isinstance(positions, Tensor):
        raise ValueError(f"positions is {type(positions).__name__}: must be a tensor or None")
    if positions.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"positions is {positions.dtype}: must be int32 or int64")
    batch, seq_len = q.shape[0], q.shape[1]
    if positions.shape != (seq_len,) and positions.shape != (batch, seq_len):
        shape = tuple(positions.shape)
        raise ValueError(
            f"positions has shape {shape}: must be (seq_len,) = ({seq_len},)"
            f" or (batch, seq_len) = ({batch}, {seq_len})"
        )
    if positions.device != q.device:
        raise ValueError(f"positions is on {positions.device}: must be on q's device, {q.device}")


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
        if not 0 < theta < float("inf"):
            raise ValueError(f"theta={theta}: must be a positive finite number")
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


def check_factor(attention_factor: float) -> None:
    """Refuse an attention factor that is not a finite number."""
    infinity = float("inf")
    if isinstance(attention_factor, Tensor) or not -infinity < attention_factor < infinity:
        raise ValueError(f"attention_factor={attention_factor}: must be a finite number")
