"""Where attention looks: the weights of chosen queries, which no fused kernel hands out.

The layer's own queries and keys are scored here once more, in float32, for a few queries only, so
that memory grows with the length and not with its square.

Shapes: B batch, S tokens, N chosen queries, H heads of queries, Hk heads of keys, D head_dim.
"""

import math

import torch
from torch import Tensor

from model.attention import RoPEAttention
from model.positions import alibi_bias, alibi_slopes
from model.score_scaling import log_n_scaled


@torch.no_grad()
def attention_weights(
    attention: RoPEAttention, x: Tensor, rows: Tensor, positions: Tensor | None = None
) -> Tensor:
    """The weights of the queries `rows` (N,) over all keys, when the layer reads x (B, S, C).

    They are those of `attention(x, positions=positions)` in eval mode: with its scaling, log-n,
    remap, window, ALiBi and SSMax, whatever is set. `positions` (S,) integers; None: from 0.
    Returns (B, H, N, S) float32 (float64 for float64 x): zero for keys that a query may not
    attend to, and each row of sum one.
    """
    remap = attention.remap
    q, k, _ = attention._heads(x) if remap is not None else attention._project(x, positions)
    if attention.score_train_length is not None:
        q = log_n_scaled(q, positions, attention.score_train_length)
    if attention.ssmax is not None:
        q = attention.ssmax(q, 0, x.shape[1], attention.causal)
    q = q[:, rows]  # (B, N, H, D)
    with torch.autocast(x.device.type, enabled=False):  # it would round the scores to 16 bits
        scores = _plain(q, k) if remap is None else _remapped(attention, q, k, rows)
        if attention.position == "alibi":
            scores = scores + _alibi(attention, scores, rows, positions)
        scores = scores.masked_fill(~_seen(attention, rows, x.shape[1]), -torch.inf)
        return scores.softmax(dim=-1)


def _plain(q: Tensor, k: Tensor) -> Tensor:
    """q·k / sqrt(D), (B, H, N, S), of q (B, N, H, D) and k (B, S, Hk, D)."""
    precision = torch.promote_types(q.dtype, torch.float32)
    q = q.transpose(1, 2).unflatten(1, (k.shape[2], -1)).to(precision)  # (B, Hk, H / Hk, N, D)
    k = k.transpose(1, 2).unsqueeze(2).to(precision)  # (B, Hk, 1, S, D)
    return (q / math.sqrt(q.shape[-1]) @ k.mT).flatten(1, 2)


def _remapped(attention: RoPEAttention, q: Tensor, k: Tensor, rows: Tensor) -> Tensor:
    """The scores under the layer's remap; -inf where no pass of it reaches."""
    keys = torch.arange(k.shape[1], device=k.device)
    scores = None
    for one in attention.remap.passes():
        there = _plain(
            attention.rotated(q, one.query(rows), one.leak, one.spread),
            attention.rotated(k, one.key(keys), one.leak),
        )
        if scores is None:
            scores = torch.full_like(there, -torch.inf)
        low, high = one.keys(rows[:, None])
        scores = torch.where((low <= keys) & (keys < high), there, scores)
    return scores


def _alibi(
    attention: RoPEAttention, scores: Tensor, rows: Tensor, positions: Tensor | None
) -> Tensor:
    if positions is None:
        positions = torch.arange(scores.shape[-1], device=scores.device)
    slopes = alibi_slopes(attention.n_heads, scores.device)
    return alibi_bias(slopes, positions[rows], positions)


def _seen(attention: RoPEAttention, rows: Tensor, n_keys: int) -> Tensor:
    """(N, S) booleans: what the layer's causality and window let the queries see."""
    ahead = rows[:, None] - torch.arange(n_keys, device=rows.device)
    seen = ahead >= 0 if attention.causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if attention.window is None else seen & (ahead.abs() < attention.window)
