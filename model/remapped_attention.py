"""Causal attention with remapped relative positions: a score pass for each rotation of the remap.

Plain PyTorch, in blocks of queries: what is held at once are the rotated queries and keys, linear
in the length, and the scores of one block, whose size is bounded. A fused GPU kernel takes
`remapped_attention`'s place, with these arguments, where there is one; this is what it is checked
against and what CPUs run.

Shapes: B batch, S queries, T = past + S keys, H heads of queries, Hk heads of keys and values,
G = H / Hk, N queries of a block, D head_dim.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from model.remap import Pass, Remap

# Scores of one block, 8 MiB in float32: larger blocks are no faster on a CPU, and small ones would
# leave a GPU waiting for launches.
CPU_BLOCK, GPU_BLOCK = 2**21, 2**26

Rotation = Callable[[Tensor, Tensor, int], Tensor]


def remapped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    remap: Remap,
    rotation: Rotation,
    *,
    past: int = 0,
    scores_per_block: int | None = None,
) -> Tensor:
    """Attend from q (B, S, H, D), not rotated, to k and v (B, T, Hk, D), k not rotated either.

    Query s is the token number past + s and attends to the keys up to itself.
    `rotation(x, positions, leak)` rotates x (B, S, H, D) to `positions` (S,) with frequencies
    divided by `leak`. Scores, softmax and sums are in float32, in float64 for float64 data.
    Returns (B, S, H, D) in q's dtype.
    """
    precision = torch.promote_types(q.dtype, torch.float32)
    passes, seq_len, n_keys = remap.passes(), q.shape[1], k.shape[1]
    queries = torch.arange(past, past + seq_len, device=q.device)
    keys = torch.arange(n_keys, device=q.device)
    scale = 1 / math.sqrt(q.shape[-1])
    scores_per_block = scores_per_block or (CPU_BLOCK if q.device.type == "cpu" else GPU_BLOCK)
    block = max(1, scores_per_block // (q.shape[0] * q.shape[2] * n_keys))
    with torch.autocast(q.device.type, enabled=False):  # it would round the scores to 16 bits
        v = v.transpose(1, 2).to(precision)  # (B, Hk, T, D)
        rotated_q = [
            _grouped(rotation(q, one.query(queries), one.leak).to(precision) * scale, k.shape[2])
            for one in passes
        ]  # (B, Hk, G, S, D) each
        rotated_k = _rotated_keys(passes, k, keys, rotation, precision)  # (B, Hk, T, D) each
        blocks = [
            _attend_block(
                [rotated[..., start : start + block, :] for rotated in rotated_q],
                rotated_k,
                v,
                passes,
                past + start,
            )
            for start in range(0, seq_len, block)
        ]
    return torch.cat(blocks, dim=-2).flatten(1, 2).transpose(1, 2).to(q.dtype)


def _rotated_keys(
    passes: list[Pass], k: Tensor, keys: Tensor, rotation: Rotation, precision: torch.dtype
) -> list[Tensor]:
    """For each pass k (B, Hk, T, D) as it is rotated there; passes may share one rotation."""
    rotated: dict[tuple[object, int], Tensor] = {}
    for one in passes:
        if (one.key, one.leak) not in rotated:
            there = rotation(k, one.key(keys), one.leak)
            rotated[one.key, one.leak] = there.transpose(1, 2).to(precision)
    return [rotated[one.key, one.leak] for one in passes]


def _grouped(q: Tensor, n_kv_heads: int) -> Tensor:
    """(B, S, H, D) -> (B, Hk, G, S, D): the heads that share keys side by side."""
    return q.transpose(1, 2).unflatten(1, (n_kv_heads, -1))


def _attend_block(
    queries: list[Tensor], keys: list[Tensor], v: Tensor, passes: list[Pass], first: int
) -> Tensor:
    """The output (B, Hk, G, N, D) of the N queries from token `first` on; one tensor per pass."""
    shape = queries[0].shape[:-1]  # (B, Hk, G, N)
    last = first + shape[-1] - 1
    i = torch.arange(first, last + 1, device=v.device)[:, None]
    scores = v.new_empty((*shape, last + 1))
    # The last pass, the widest, is written without a mask; the others then replace their pairs.
    for one, q, k in reversed(list(zip(passes, queries, keys, strict=True))):
        low, high = one.keys(first, last)
        low, high = max(low, 0), min(high, last + 1)
        if low >= high:
            continue
        dots = (q.flatten(2, 3) @ k[:, :, low:high].mT).view(*shape, high - low)
        here = scores[..., low:high]
        if one is not passes[-1]:
            j = torch.arange(low, high, device=v.device)
            dots = torch.where(one.applies(i, j), dots, here)
        here.copy_(dots)
    scores[..., first:].masked_fill_(i.mT > i, -torch.inf)  # no pass has written the future
    weights = scores.softmax(dim=-1)
    return (weights.flatten(2, 3) @ v[:, :, : last + 1]).view(*shape, v.shape[-1])
