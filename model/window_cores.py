"""The cores of layers with a window, and of ALiBi, whose scores have a bias.

SDPA takes both as a tensor of queries x keys. Made for a block of queries at a time, and only for
the keys that the block may see, its memory grows with block x length, with a window even with
block x window. On a GPU without gradients a fused kernel takes its place
(`model/fused_attention.py`).

Shapes: B batch, S queries, T keys (S, or more with a cache), H heads of queries, Hk heads of keys
and values, D head_dim, Q queries of a block, K keys that the block may see.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.cores import Call, Core, PlainCore, attend, broadcastable, dots, visible
from model.fused_attention import fuses, window_attention
from model.positions import alibi_bias, alibi_slopes

BLOCK = 512  # queries: one block is most training lengths, and large enough to be quick
WINDOW_BLOCK = 128  # at least, and the window where that is longer: a block sees both

# (queries, keys), as slices of all of them -> (B or 1, H, Q, K), added to the scores
Bias = Callable[[slice, slice], Tensor]


@dataclass(frozen=True)
class WindowCore(Core):
    """A query sees itself and the window - 1 tokens before it (and after it, if not causal)."""

    causal: bool
    window: int
    backend: str = "auto"  # "pytorch": never the fused kernel

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`; the positions are in q and k already."""
        if k.shape[1] <= self.window:
            return PlainCore(self.causal)(q, k, v, call)
        plain = self.causal and call.mask is None and not call.dropout
        if plain and fuses(self.backend, q, k, v):
            return window_attention(q, k, v, self.window)
        rules = Rules.of(q, k, self.causal, self.window, call.mask)
        return attend_in_blocks(q, k, v, rules, None, call.dropout)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """See `Core`."""
        keys = torch.arange(k.shape[1], device=k.device)
        seen = visible(rows, keys, causal=self.causal, window=self.window)
        return dots(q, k).masked_fill(~seen, -torch.inf)


@dataclass(frozen=True)
class AlibiCore(Core):
    """ALiBi: scores that fall with the distance (`model/positions.py`), in a window or in none."""

    causal: bool
    window: int | None = None
    backend: str = "auto"  # "pytorch": never the fused kernel

    counts = True

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`."""
        counted = call.positions is None and (call.cache is None or call.cache.positions is None)
        plain = self.causal and call.mask is None and not call.dropout
        if plain and counted and fuses(self.backend, q, k, v):
            slopes = alibi_slopes(q.shape[2], q.device)
            return window_attention(q, k, v, self.window, slopes=slopes)
        rules = Rules.of(q, k, self.causal, self.window, call.mask)
        return attend_in_blocks(q, k, v, rules, alibi_of(q, k, call), call.dropout)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """See `Core`."""
        keys = torch.arange(k.shape[1], device=k.device)
        seen = visible(rows, keys, causal=self.causal, window=self.window)
        at = keys if positions is None else positions
        bias = alibi_bias(alibi_slopes(q.shape[2], q.device), at[rows], at)
        return (dots(q, k) + bias).masked_fill(~seen, -torch.inf)


def alibi_of(q: Tensor, k: Tensor, call: Call) -> Bias:
    """ALiBi's bias, by the positions of the queries and of all keys."""
    at = call.positions
    if at is None:
        at = torch.arange(k.shape[1] - q.shape[1], k.shape[1], device=q.device)
    keys_at = at
    if call.cache is not None:
        if call.positions is not None:
            call.cache.set_positions(call.positions)
        keys_at = call.cache.key_positions()
    slopes = alibi_slopes(q.shape[2], q.device)
    return lambda queries, keys: alibi_bias(slopes, at[..., queries], keys_at[..., keys])


class Rules(NamedTuple):
    """What a query may attend to. Query s is the token number `past` + s, key t the number t."""

    causal: bool
    past: int
    window: int | None  # itself and window - 1 tokens before it (and after, if not causal)
    mask: Tensor | None  # booleans that broadcast to (B, H, S, T), joined by AND
    documents: Tensor | None = None  # (T,) the document of each token; it sees no other's

    @classmethod
    def of(
        cls, q: Tensor, k: Tensor, causal: bool, window: int | None, mask: Tensor | None
    ) -> "Rules":
        """For q (B, S, H, D) and k (B, T, Hk, D), and the mask of `RoPEAttention.forward`."""
        (batch, seq_len, heads, _), n_keys = q.shape, k.shape[1]
        if mask is not None:
            mask = broadcastable(mask, (batch, heads, seq_len, n_keys))
        return cls(causal, n_keys - seq_len, window, mask)

    def keys(self, queries: slice, n_keys: int) -> slice:
        """The keys that any of the queries may attend to, as far as causality and window say."""
        first, last = self.past + queries.start, self.past + queries.stop - 1
        reach = n_keys if self.window is None else self.window - 1
        start = max(0, first - reach)
        return slice(start, min(n_keys, last + (0 if self.causal else reach) + 1))

    def allowed(self, queries: slice, keys: slice, device: torch.device) -> Tensor | None:
        """Booleans that broadcast to (B, H, Q, K); None: all of `self.keys` for each of them."""
        allowed = None if self.mask is None else _part(self.mask, queries, keys)
        one = queries.stop - queries.start == 1 and self.documents is None
        if one:  # its keys are those that it may attend to
            return allowed
        query = torch.arange(queries.start, queries.stop, device=device) + self.past
        key = torch.arange(keys.start, keys.stop, device=device)
        near = visible(query, key, causal=self.causal, window=self.window)  # (Q, K)
        if self.documents is not None:
            near = near & (self.documents[queries, None] == self.documents[keys])
        return near if allowed is None else allowed & near


def attend_in_blocks(
    q: Tensor, k: Tensor, v: Tensor, rules: Rules, bias: Bias | None, dropout: float
) -> Tensor:
    """softmax(q·k / sqrt(D) + bias) v of q (B, S, H, D) over k, v (B, T, Hk, D): (B, S, H, D).

    A query that may attend to nothing gets zeros.
    """

    def attend_block(q: Tensor, k: Tensor, v: Tensor, queries: slice, keys: slice) -> Tensor:
        allowed = rules.allowed(queries, keys, q.device)
        return attend(q, k, v, allowed, None if bias is None else bias(queries, keys), dropout)

    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, S, D), (B, Hk, T, D)
    n_queries, outputs = q.shape[2], []
    size = BLOCK if rules.window is None else min(BLOCK, max(WINDOW_BLOCK, rules.window))
    # The backward of a full layer would keep every block's scores: it makes them again instead.
    again = n_queries > size and rules.window is None and torch.is_grad_enabled()
    for queries in blocks_of(n_queries, size):
        keys = rules.keys(queries, k.shape[2])
        block = (q[:, :, queries], k[:, :, keys], v[:, :, keys], queries, keys)
        outputs.append(
            checkpoint(attend_block, *block, use_reentrant=False) if again else attend_block(*block)
        )
    y = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)  # (B, H, S, D)
    return y.transpose(1, 2)


def blocks_of(n_queries: int, size: int) -> list[slice]:
    """Blocks of at most `size` queries: a power of 4 of them, alike but for the last.

    So few numbers of blocks make few graphs under torch.compile, whatever the lengths.
    """
    count = 1
    while count * size < n_queries:
        count *= 4
    if count == 1:
        return [slice(0, n_queries)]
    size = -(-n_queries // count)
    starts = [i * size for i in range(count)]
    return [slice(s, min(s + size, n_queries)) for s in starts if s < n_queries]


def _part(mask: Tensor, queries: slice, keys: slice) -> Tensor:
    """Of a 4-D mask what concerns these queries and keys; sizes of 1 stand for all."""
    rows = mask if mask.shape[-2] == 1 else mask[..., queries, :]
    return rows if mask.shape[-1] == 1 else rows[..., keys]
