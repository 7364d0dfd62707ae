"""The core of layers whose scores are capped: cap · tanh(score / cap), which SDPA cannot do.

Scores are made for a block of queries at a time, in float32 (float64 for float64 data), so that
memory grows with block x length.

Shapes: B batch, S queries, T keys, H heads of queries, Hk heads of keys and values, D head_dim.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from model.cores import Call, Core, dots, visible
from model.norms import capped
from model.window_cores import BLOCK, Rules, blocks_of


@dataclass(frozen=True)
class CappedCore(Core):
    """softmax(cap · tanh(q·k / sqrt(D) / cap)) v, over all keys so far or a window of them."""

    causal: bool
    window: int | None
    cap: float

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, call: Call) -> Tensor:
        """See `Core`; the positions are in q and k already."""
        rules = Rules.of(q, k, self.causal, self.window, call.mask)
        again = q.shape[1] > BLOCK and torch.is_grad_enabled()  # or each block's scores would stay
        outputs = []
        for queries in blocks_of(q.shape[1], BLOCK):
            keys = rules.keys(queries, k.shape[1])
            allowed = rules.allowed(queries, keys, q.device)
            block = (q[:, queries], k[:, keys], v[:, keys], allowed, call.dropout)
            outputs.append(
                checkpoint(self._attend, *block, use_reentrant=False)
                if again
                else self._attend(*block)
            )
        return torch.cat(outputs, dim=1)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, dropout: float
    ) -> Tensor:
        """What q (B, N, H, D) reads of k, v (B, K, Hk, D); `allowed` broadcasts to (B, H, N, K)."""
        with torch.autocast(q.device.type, enabled=False):  # it would round the scores to 16 bits
            scores = capped(dots(q, k), self.cap)  # (B, H, N, K)
        if allowed is not None:
            attends = allowed.any(-1, keepdim=True)  # False: softmax over nothing would be NaN
            scores = scores.masked_fill(~allowed & attends, -torch.inf)
        weights = scores.softmax(dim=-1)
        if allowed is not None:
            weights = weights.masked_fill(~attends, 0.0)
        weights = F.dropout(weights, dropout).to(v.dtype)
        v = v.transpose(1, 2).repeat_interleave(q.shape[2] // v.shape[2], dim=1)  # (B, H, K, D)
        return (weights @ v).transpose(1, 2)

    def scores(self, q: Tensor, k: Tensor, rows: Tensor, positions: Tensor | None) -> Tensor:
        """See `Core`."""
        keys = torch.arange(k.shape[1], device=k.device)
        seen = visible(rows, keys, causal=self.causal, window=self.window)
        return capped(dots(q, k), self.cap).masked_fill(~seen, -torch.inf)
