"""Projection and rotation as one operator: when a GEMM can rotate, and how it is called.

The kernel is in gluon.py, which is imported when a Hopper GPU first asks for it.

Shapes: B batch, S sequence, C d_model, H heads of q, H_kv heads of k and v, D head_dim,
N (H + 2 H_kv) D.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators import define
from ..rope.arguments import Placement, Rotation, linear_dtype, split_heads
from ..rope.autograd import kernel_calls

HEAD_DIM = 64
LEAST_WIDTH = 128  # of x: the kernel's second warpgroup starts two steps of 64 late


def can_project(
    x: Tensor, weight: Tensor, n_heads: int, n_kv_heads: int, frequencies: Tensor | None
) -> bool:
    """Whether a kernel projects x (B, S, C) by weight (N, C) and rotates in the same pass.

    It needs a GPU of compute capability 9.0 and a triton that has Gluon, bfloat16 (autocast's
    counts), heads of 64 that rotate as a whole, a C of 64s from 128 on, and even numbers of heads:
    it writes two at a time, both of q and k or both of v. Nothing is read from a tensor, so that
    this can be said while a graph is traced.

    `frequencies` are inv_freq or phases (D/2,), or None for a whole head's.
    """
    if x.device.type != "cuda" or x.numel() == 0:
        return False
    if linear_dtype(x) != torch.bfloat16 or linear_dtype(weight) != torch.bfloat16:
        return False
    whole = frequencies is None or frequencies.shape == (HEAD_DIM // 2,)
    heads = weight.shape[0] == (n_heads + 2 * n_kv_heads) * HEAD_DIM
    pairs = n_heads % 2 == 0 and n_kv_heads % 2 == 0
    depth = x.shape[2] % 64 == 0 and x.shape[2] >= LEAST_WIDTH
    return whole and heads and pairs and depth and _has_kernel(x.device.index)


def _has_kernel(device: int) -> bool:
    return _looked_up(device)


# What torch.compiler.assume_constant_result does, which would import triton first.
_has_kernel._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _looked_up(device: int) -> bool:
    if torch.cuda.get_device_capability(device) != (9, 0):
        return False
    try:
        from . import gluon  # noqa: F401
    except (ImportError, AttributeError):  # Gluon is young, and its names still move
        return False
    return True


def project(
    x: Tensor,  # (B, S, C)
    weight: Tensor,  # (N, C)
    phases: Tensor,  # (D/2,)
    n_heads: int,
    n_kv_heads: int,
    interleaved: bool,
    factor: float,
) -> Tensor:
    """x · weightᵀ (B, S, N) with rotated q and k; by two passes on a CPU."""
    if x.device.type == "cuda":
        from .gluon import project_and_rotate

        heads, seq_len = (n_heads, n_kv_heads), x.shape[1]
        packed = project_and_rotate(
            x.flatten(0, 1), weight, phases, seq_len, *heads, interleaved, factor
        )
        return packed.unflatten(0, x.shape[:2])
    packed = F.linear(x, weight)
    q, k, _ = split_heads(packed, n_heads, n_kv_heads)
    rotation = Rotation(phases, *Placement(), interleaved, factor)
    kernel_calls().rotate_into((q, k), (q, k), rotation)
    return packed


def _empty(x: Tensor, weight: Tensor, *options: object) -> Tensor:
    return x.new_empty(*x.shape[:2], weight.shape[0])


define(
    "project(Tensor x, Tensor weight, Tensor phases, int n_heads, int n_kv_heads,"
    " bool interleaved, float factor) -> Tensor",
    project,
    _empty,
)
