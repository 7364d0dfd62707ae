"""Masks, and attention in blocks of queries for layers whose scores need a bias or a window.

SDPA takes both as a tensor of queries x keys. Made for a block of queries at a time, and only for
the keys that the block may see, its memory grows with block x length, with a window even with
block x window. Plain causal layers do not come here: SDPA's own `is_causal` needs no mask. On a
GPU without gradients `model/fused_attention.py` takes its place.

Shapes: B batch, S queries, T keys (S, or more with a cache), H heads of queries, Hk heads of keys
and values, D head_dim, Q queries of a block, K keys that the block may see.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK = 512  # queries: one block is most training lengths, and large enough to be quick
WINDOW_BLOCK = 128  # at least, and the window where that is longer: a block sees both

# (queries, keys), as slices of all of them -> (B or 1, H, Q, K), added to the scores
Bias = Callable[[slice, slice], Tensor]


class Rules(NamedTuple):
    """What a query may attend to. Query s is the token number `past` + s, key t the number t."""

    causal: bool
    past: int = 0
    window: int | None = None  # itself and window - 1 tokens before it (and after, if not causal)
    mask: Tensor | None = None  # booleans that broadcast to (B, H, S, T), joined by AND

    def keys(self, queries: slice, n_keys: int) -> slice:
        """The keys that any of the queries may attend to, as far as causality and window say."""
        first, last = self.past + queries.start, self.past + queries.stop - 1
        reach = n_keys if self.window is None else self.window - 1
        start = max(0, first - reach)
        return slice(start, min(n_keys, last + (0 if self.causal else reach) + 1))

    def allowed(self, queries: slice, keys: slice, device: torch.device) -> Tensor | None:
        """Booleans that broadcast to (B, H, Q, K); None: all of `self.keys` for each of them."""
        allowed = None if self.mask is None else _part(self.mask, queries, keys)
        if queries.stop - queries.start == 1:  # its keys are those that it may attend to
            return allowed
        query = torch.arange(queries.start, queries.stop, device=device) + self.past
        ahead = query[:, None] - torch.arange(keys.start, keys.stop, device=device)  # (Q, K)
        near = ahead >= 0 if self.causal else torch.ones_like(ahead, dtype=torch.bool)
        if self.window is not None:
            near = near & (ahead.abs() < self.window)
        return near if allowed is None else allowed & near


def attend_in_blocks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rules: Rules,
    bias: Bias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q·k / sqrt(D) + bias) v of q (B, H, S, D) over k, v (B, Hk, T, D): (B, H, S, D).

    A query that may attend to nothing gets zeros.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, queries: slice, keys: slice) -> Tensor:
        allowed = rules.allowed(queries, keys, q.device)
        return _attend(q, k, v, allowed, None if bias is None else bias(queries, keys), dropout)

    n_queries, outputs = q.shape[2], []
    size = BLOCK if rules.window is None else min(BLOCK, max(WINDOW_BLOCK, rules.window))
    # The backward of a full layer would keep every block's scores: it makes them again instead.
    again = n_queries > size and rules.window is None and torch.is_grad_enabled()
    for start in range(0, n_queries, size):
        queries = slice(start, min(start + size, n_queries))
        keys = rules.keys(queries, k.shape[2])
        block = (q[:, :, queries], k[:, :, keys], v[:, :, keys], queries, keys)
        outputs.append(checkpoint(attend, *block, use_reentrant=False) if again else attend(*block))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None, dropout: float
) -> Tensor:
    attends = None
    if allowed is not None:
        attends = allowed.any(-1, keepdim=True)  # False: a query that may attend to nothing
        allowed = allowed | ~attends  # softmax over nothing is NaN, and so is its gradient
    if bias is not None:
        bias = bias.to(q.dtype)
        allowed = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=allowed, dropout_p=dropout, enable_gqa=q.shape[1] != k.shape[1]
    )
    return y if attends is None else y.masked_fill(~attends, 0.0)


def _part(mask: Tensor, queries: slice, keys: slice) -> Tensor:
    """The block's part of a mask whose dimensions may be 1, which stands for all."""
    rows = mask if mask.shape[-2] == 1 else mask[..., queries, :]
    return rows if mask.shape[-1] == 1 else rows[..., keys]


def broadcastable(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The mask as 4-D booleans that broadcast to `shape` = (B, H, S, T)."""
    view = mask.unsqueeze(1) if mask.ndim == 3 else mask  # (B, S, T): the same for every head
    padded = (1,) * (4 - view.ndim) + tuple(view.shape)
    if view.ndim > 4 or any(m not in (1, n) for m, n in zip(padded, shape, strict=True)):
        b, h, s, t = shape
        raise ValueError(
            f"mask: must be ({s}, {t}), ({b}, {s}, {t}) or broadcast to ({b}, {h}, {s}, {t}); "
            f"got {tuple(mask.shape)}"
        )
    return (view != 0).reshape(padded)


def causal_mask(seq_len: int, past: int, device: torch.device) -> Tensor:
    """(S, T) booleans: query s, the token number past + s, attends to the keys up to itself."""
    ones = torch.ones(seq_len, past + seq_len, dtype=torch.bool, device=device)
    return ones.tril(diagonal=past)
