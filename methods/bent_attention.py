"""Attention in several rotations under one softmax: one for each pass of a position map.

On a GPU one fused kernel (`kernels.interval_attention`), forward only, takes every pass and keeps
nothing but queries, keys and values. Everywhere else, where gradients are wanted too, plain PyTorch
in blocks of queries: what is held at once are the rotated queries and keys, linear in the length,
and the scores of one block, whose size is bounded. The kernel is checked against it.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, G = H / Hk,
N queries of a block, D head_dim, P passes.
"""

import functools
import math
from typing import Protocol

import torch
from torch import Tensor

from kernels import interval_attention
from methods.maps import Pass, PositionMap, intervals
from model.fused_attention import KEPT
from model.norms import capped

# Scores of one block, 8 MiB in float32: larger blocks are no faster on a CPU, and small ones would
# leave a GPU waiting for launches.
CPU_BLOCK, GPU_BLOCK = 2**21, 2**26


class Rotate(Protocol):
    """How queries and keys are rotated, as `methods.bend.rotated` does for a layer."""

    def __call__(self, x: Tensor, positions: Tensor, leak: int = 1, spread: int = 1) -> Tensor:
        """x (B, S, H, D) rotated to `positions` (S,), every frequency divided by `leak`.

        With `spread`, the mean of so many rotations around these, a token apart.
        """
        ...


def bent_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position_map: PositionMap,
    rotation: Rotate,
    *,
    fused: bool = False,
    cap: float | None = None,
    scores_per_block: int | None = None,
) -> Tensor:
    """Attend from q (B, S, H, D), not rotated, to k and v (B, T, Hk, D), k not rotated either.

    Query s is the token number T - S + s and attends to the keys up to itself, as far as a pass
    covers them. Scores, softmax and sums are in float32, in float64 for float64 data. `fused`: by
    the kernel, where `model.fused_attention.can_fuse` says that it may, and which caps no scores.
    `cap`: scores s become cap tanh(s / cap). Returns (B, S, H, D) in
    q's dtype.
    """
    with torch.autocast(q.device.type, enabled=False):  # it would round the scores to 16 bits
        if fused:
            return _fused(q, k.to(q.dtype), v.to(q.dtype), position_map, rotation)
        return _in_blocks(q, k, v, position_map, rotation, cap, scores_per_block)


# By the fused kernel. Positions and bounds depend on the map and the lengths alone: they are made
# once and serve every layer.


def _fused(q: Tensor, k: Tensor, v: Tensor, position_map: PositionMap, rotation: Rotate) -> Tensor:
    passes, seq_len = position_map.passes(), q.shape[1]
    past = k.shape[1] - seq_len
    queries, keys = pass_positions(position_map, past, seq_len, q.device)
    rotated_q = [
        rotation(q, to, one.leak, one.spread) for one, to in zip(passes, queries, strict=True)
    ]
    rotated_k = _rotated_keys(passes, k, keys, rotation)
    bounds = key_bounds(position_map, past, seq_len, q.device)
    return interval_attention(rotated_q, rotated_k, v, *bounds)


@functools.lru_cache(maxsize=KEPT)
def pass_positions(
    position_map: PositionMap, past: int, seq_len: int, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Where each pass rotates S queries, from token `past` on, and all keys up to the last of them.

    int64 (S,) and (T,), a pair of lists with an entry for each pass.
    """
    with torch.inference_mode(False):  # what is kept must be usable outside of it
        keys = torch.arange(past + seq_len, device=device)
        passes = position_map.passes()
        return [p.query(keys[past:]) for p in passes], [p.key(keys) for p in passes]


@functools.lru_cache(maxsize=KEPT)
def key_bounds(
    position_map: PositionMap, past: int, seq_len: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """low and high of every pass for S queries from token `past` on: int32 (P, S)."""
    with torch.inference_mode(False):
        low, high = intervals(position_map, torch.arange(past, past + seq_len, device=device))
        return low.int(), high.int()


# By PyTorch, in blocks of queries.


def _in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    position_map: PositionMap,
    rotation: Rotate,
    cap: float | None,
    scores_per_block: int | None,
) -> Tensor:
    precision = torch.promote_types(q.dtype, torch.float32)
    passes, seq_len, n_keys = position_map.passes(), q.shape[1], k.shape[1]
    queries = torch.arange(n_keys - seq_len, n_keys)
    low, high = intervals(position_map, queries)  # on the CPU, where their values cost no waiting
    queries, keys = queries.to(q.device), torch.arange(n_keys, device=q.device)
    scale = 1 / math.sqrt(q.shape[-1])
    rotated_q = [
        rotation(q, one.query(queries), one.leak, one.spread).to(precision) * scale
        for one in passes
    ]
    rotated_q = [_grouped(x, k.shape[2]) for x in rotated_q]  # (B, Hk, G, S, D) each
    rotated_k = [
        x.transpose(1, 2).to(precision)
        for x in _rotated_keys(passes, k, [one.key(keys) for one in passes], rotation)
    ]  # (B, Hk, T, D) each
    v = v.transpose(1, 2).to(precision)  # (B, Hk, T, D)
    scores_per_block = scores_per_block or (CPU_BLOCK if q.device.type == "cpu" else GPU_BLOCK)
    block = max(1, scores_per_block // (q.shape[0] * q.shape[2] * n_keys))
    blocks = [
        _attend_block(
            [x[..., start : start + block, :] for x in rotated_q],
            rotated_k,
            v,
            low[:, start : start + block],
            high[:, start : start + block],
            cap,
        )
        for start in range(0, seq_len, block)
    ]
    return torch.cat(blocks, dim=-2).flatten(1, 2).transpose(1, 2).to(q.dtype)


def _rotated_keys(
    passes: list[Pass], k: Tensor, positions: list[Tensor], rotation: Rotate
) -> list[Tensor]:
    """For each pass k (B, T, Hk, D) as it is rotated there; passes may share one rotation."""
    done: dict[tuple[object, int], Tensor] = {}
    for one, to in zip(passes, positions, strict=True):
        if (one.key, one.leak) not in done:
            done[one.key, one.leak] = rotation(k, to, one.leak, 1)
    return [done[one.key, one.leak] for one in passes]


def _grouped(q: Tensor, n_kv_heads: int) -> Tensor:
    """(B, S, H, D) -> (B, Hk, G, S, D): the heads that share keys side by side."""
    return q.transpose(1, 2).unflatten(1, (n_kv_heads, -1))


def _attend_block(
    queries: list[Tensor],
    keys: list[Tensor],
    v: Tensor,
    low: Tensor,
    high: Tensor,
    cap: float | None,
) -> Tensor:
    """The output (B, Hk, G, N, D) of N queries by their bounds (P, N): one softmax over the
    scores of all passes, side by side."""
    shape = queries[0].shape[:-1]  # (B, Hk, G, N)
    met = [slice(*ends) for ends in zip(low[:, 0].tolist(), high[:, -1].tolist(), strict=True)]
    scores = []
    for one, q, k, first, end in zip(met, queries, keys, low, high, strict=True):
        dots = capped((q.flatten(2, 3) @ k[:, :, one].mT).view(*shape, -1), cap)
        j = torch.arange(one.start, max(one.start, one.stop))
        inside = (j >= first[:, None]) & (j < end[:, None])
        scores.append(dots.masked_fill(~inside.to(v.device), -torch.inf))
    weights = torch.cat(scores, dim=-1).softmax(dim=-1).split([s.shape[-1] for s in scores], -1)
    return sum(
        (part.flatten(2, 3) @ v[:, :, one]).view(*shape, v.shape[-1])
        for part, one in zip(weights, met, strict=True)
    )
