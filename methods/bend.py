"""Causal attention with remapped relative positions: a rotation for each pass of the remap.

On a GPU one fused kernel (`kernels.interval_attention`), forward only, takes every pass and keeps
nothing but queries, keys and values. Everywhere else, where gradients are wanted too, plain PyTorch
in blocks of queries: what is held at once are the rotated queries and keys, linear in the length,
and the scores of one block, whose size is bounded. The kernel is checked against it.

Shapes: B batch, S queries, T = past + S keys, H heads of queries, Hk heads of keys and values,
G = H / Hk, N queries of a block, D head_dim, P passes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels import interval_attention
from methods.maps import Pass, Remap, intervals
from model.fused_attention import key_bounds, pass_positions

# Scores of one block, 8 MiB in float32: larger blocks are no faster on a CPU, and small ones would
# leave a GPU waiting for launches.
CPU_BLOCK, GPU_BLOCK = 2**21, 2**26

Rotation = Callable[[Tensor, Tensor, int, int], Tensor]


def remapped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    remap: Remap,
    rotation: Rotation,
    *,
    past: int = 0,
    fused: bool = False,
    scores_per_block: int | None = None,
) -> Tensor:
    """Attend from q (B, S, H, D), not rotated, to k and v (B, T, Hk, D), k not rotated either.

    Query s is the token number past + s and attends to the keys up to itself, as far as a pass
    covers them. `rotation(x, positions, leak, spread)` rotates x (B, S, H, D) to `positions` (S,)
    with frequencies divided by `leak`, or is the mean of `spread` rotations around that. Scores,
    softmax and sums are in float32, in float64 for float64 data. `fused`: by the kernel, where
    `can_fuse` says that it may. Returns (B, S, H, D) in q's dtype.
    """
    with torch.autocast(q.device.type, enabled=False):  # it would round the scores to 16 bits
        if fused:
            return _fused(q, k.to(q.dtype), v.to(q.dtype), remap, rotation, past)
        return _in_blocks(q, k, v, remap, rotation, past, scores_per_block)


def _fused(q: Tensor, k: Tensor, v: Tensor, remap: Remap, rotation: Rotation, past: int) -> Tensor:
    passes = remap.passes()
    at = pass_positions(remap, past, q.shape[1], q.device)
    rotated_q = [
        rotation(q, to, one.leak, one.spread) for one, to in zip(passes, at.queries, strict=True)
    ]
    rotated_k = _rotated_keys(passes, k, at.keys, rotation)
    return interval_attention(
        rotated_q, rotated_k, v, *key_bounds(remap, past, q.shape[1], q.device)
    )


def _in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    remap: Remap,
    rotation: Rotation,
    past: int,
    scores_per_block: int | None,
) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    passes, seq_len, n_keys = remap.passes(), q.shape[1], k.shape[1]
    queries = torch.arange(past, past + seq_len)
    low, high = intervals(remap, queries)  # on the CPU, where their values cost no waiting
    queries, keys = queries.to(q.device), torch.arange(n_keys, device=q.device)
    scale = 1 / math.sqrt(q.shape[-1])
    rotated_q = [
        rotation(q, one.query(queries), one.leak, one.spread).to(precision) * scale
        for one in passes
    ]
    rotated_q = [_grouped(rotated, k.shape[2]) for rotated in rotated_q]  # (B, Hk, G, S, D) each
    rotated_k = [
        rotated.transpose(1, 2).to(precision)
        for rotated in _rotated_keys(passes, k, [one.key(keys) for one in passes], rotation)
    ]  # (B, Hk, T, D) each
    v = v.transpose(1, 2).to(precision)  # (B, Hk, T, D)
    scores_per_block = scores_per_block or (CPU_BLOCK if q.device.type == "cpu" else GPU_BLOCK)
    block = max(1, scores_per_block // (q.shape[0] * q.shape[2] * n_keys))
    blocks = [
        _attend_block(
            [rotated[..., start : start + block, :] for rotated in rotated_q],
            rotated_k,
            v,
            low[:, start : start + block],
            high[:, start : start + block],
        )
        for start in range(0, seq_len, block)
    ]
    return torch.cat(blocks, dim=-2).flatten(1, 2).transpose(1, 2).to(q.dtype)


def _rotated_keys(
    passes: list[Pass], k: Tensor, positions: list[Tensor], rotation: Rotation
) -> list[Tensor]:
    """For each pass k (B, T, Hk, D) as it is rotated there; passes may share one rotation."""
    rotated: dict[tuple[object, int], Tensor] = {}
    for one, to in zip(passes, positions, strict=True):
        if (one.key, one.leak) not in rotated:
            rotated[one.key, one.leak] = rotation(k, to, one.leak, 1)
    return [rotated[one.key, one.leak] for one in passes]


def _grouped(q: Tensor, n_kv_heads: int) -> Tensor:
    """(B, S, H, D) -> (B, Hk, G, S, D): the heads that share keys side by side."""
    return q.transpose(1, 2).unflatten(1, (n_kv_heads, -1))


def _attend_block(
    queries: list[Tensor], keys: list[Tensor], v: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """The output (B, Hk, G, N, D) of N queries by their bounds (P, N): one softmax over the
    scores of all passes, side by side."""
    shape = queries[0].shape[:-1]  # (B, Hk, G, N)
    met = [slice(*ends) for ends in zip(low[:, 0].tolist(), high[:, -1].tolist(), strict=True)]
    scores = []
    for one, q, k, first, end in zip(met, queries, keys, low, high, strict=True):
        dots = (q.flatten(2, 3) @ k[:, :, one].mT).view(*shape, -1)
        j = torch.arange(one.start, max(one.start, one.stop))
        inside = (j >= first[:, None]) & (j < end[:, None])
        scores.append(dots.masked_fill(~inside.to(v.device), -torch.inf))
    weights = torch.cat(scores, dim=-1).softmax(dim=-1).split([s.shape[-1] for s in scores], -1)
    return sum(
        (part.flatten(2, 3) @ v[:, :, one]).view(*shape, v.shape[-1])
        for part, one in zip(weights, met, strict=True)
    )
