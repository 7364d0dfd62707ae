"""What attends: the core of an attention layer, from queries, keys and values to what is read.

A layer projects, sharpens and caches; its core scores every query against the keys and reads from
the values. `PlainCore` is the ordinary one. Those of windows and of ALiBi stand in
`model/window_cores.py`, and others may be installed in their place (`methods/bend.py`).

Shapes: B batch, S queries, T keys (S, or more with a cache), H heads of queries, Hk heads of keys
and values, D head_dim, N chosen queries.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cache import LayerCache


class Call(NamedTuple):
    """What one call of an attention layer is given beside q, k and v."""

    mask: Tensor | None = None  # as `RoPEAttention.forward` takes it
    positions: Tensor | None = None  # of the queries, (S,) or (B, S); None: the tokens are counted
    cache: LayerCache | None = None  # where k and v are kept
    dropout: float = 0.0  # the share of the weights to drop


class Core(Protocol):
    """What `RoPEAttention.core` must do."""

    rotates: bool = False  # takes q and k that are not rotated, and rotates them itself
    counts: bool = False  # counts tokens itself, and wants no positions but those of a caller

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """What the queries q (B, S, H, D) read: (B, S, H, D).

        k and v (B, T, Hk, D) are all tokens so far, of which the queries are the last S.
        """
        ...

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """The scores of chosen queries over all keys (B, H, N, T), -inf where one sees no key.

        q (B, N, H, D) are the queries `rows` (N,) of a whole text, whose keys are k (B, T, Hk, D);
        `positions` (T,) are those of the text. In float32 (float64 for float64 data).
        """
        ...


@dataclass(frozen=True)
class PlainCore(Core):
    """Softmax over all keys, or over all so far: PyTorch's scaled dot-product attention (SDPA)."""

    causal: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`; the positions are in q and k already."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, S, D), (B, Hk, T, D)
        seq_len, n_keys = q.shape[2], k.shape[2]
        causal = False if seq_len == 1 else self.causal  # after the last query no key comes
        if call.mask is not None or (causal and n_keys > seq_len):
            return self._masked(q, k, v, call).transpose(1, 2)
        return _sdpa(q, k, v, None, call.dropout, causal).transpose(1, 2)

    def _masked(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """With a mask, or with keys before the first query: not what SDPA's causal mask knows."""
        seq_len, n_keys = q.shape[2], k.shape[2]
        keys = torch.arange(n_keys, device=q.device)
        seen = visible(keys[n_keys - seq_len :], keys, causal=self.causal)
        if call.mask is None:
            return _sdpa(q, k, v, seen, call.dropout)
        allowed = broadcastable(call.mask, (*q.shape[:3], n_keys)) & seen
        return attend(q, k, v, allowed, None, call.dropout)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """See `Core`."""
        seen = visible(rows, torch.arange(k.shape[1], device=k.device), causal=self.causal)
        return dots(q, k).masked_fill(~seen, -torch.inf)


def attend(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None, dropout: float
) -> Tensor:
    """softmax(q·k / sqrt(D) + bias) v of q (B, H, S, D) over k, v (B, Hk, T, D): (B, H, S, D).

    `allowed`: booleans that broadcast to (B, H, S, T); a query without any gets zeros.
    """
    attends = None
    if allowed is not None:
        attends = allowed.any(-1, keepdim=True)  # False: a query that may attend to nothing
        allowed = allowed | ~attends  # softmax over nothing is NaN, and so is its gradient
    if bias is not None:
        bias = bias.to(q.dtype)
        allowed = bias if allowed is None else bias.masked_fill(~allowed, -torch.inf)
    y = _sdpa(q, k, v, allowed, dropout)
    return y if attends is None else y.masked_fill(~attends, 0.0)


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool = False
) -> Tensor:
    shares = q.shape[1] != k.shape[1]  # heads of queries share keys and values
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=shares
    )


def dots(q: Tensor, k: Tensor) -> Tensor:
    """q·k / sqrt(D) of q (B, N, H, D) and k (B, T, Hk, D): (B, H, N, T), in float32 at least."""
    precision = torch.promote_types(q.dtype, torch.float32)
    q = q.transpose(1, 2).unflatten(1, (k.shape[2], -1)).to(precision)  # (B, Hk, H / Hk, N, D)
    k = k.transpose(1, 2).unsqueeze(2).to(precision)  # (B, Hk, 1, T, D)
    return (q / math.sqrt(q.shape[-1]) @ k.mT).flatten(1, 2)


def visible(queries: Tensor, keys: Tensor, *, causal: bool, window: int | None = None) -> Tensor:
    """Whether queries (N,) see keys (T,), both the numbers of tokens: booleans (N, T).

    `window`: a query sees itself and window - 1 tokens before it (and after it, if not causal).
    """
    ahead = queries[:, None] - keys
    seen = ahead >= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


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
