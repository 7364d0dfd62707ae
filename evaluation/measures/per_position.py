"""Loss by the number of tokens of context: one long pass instead of many lengths.

A model that uses the far context gets better along the passage. One that cannot read past its
training length gets worse from there on.

Shapes: P passages, S tokens read, K buckets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from evaluation.measures.loss import same_target_nll
from evaluation.statistics import mean_ci95


def measure_positions(
    model: nn.Module,
    passages: np.ndarray,
    *,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, list]:
    """Mean loss of the tokens that have 1, 2-3, 4-7, 8-15, … tokens of context.

    The last bucket ends with the passage. A rest that would fill less than half of one more bucket
    is counted to it.

    Args:
        model: (tokens (B, S), logits_to_keep=n) -> logits (B, n, V), in eval mode and under a
            method.
        passages: integers (P, S + 1).
        max_tokens_per_batch, on_forward: as `evaluation.measures.loss.same_target_nll` takes them.

    Returns:
        {"from", "to": tokens of context, "nll": nats per token, "ci95": [low, high] by bootstrap
        over passages, None for a single one}, a list each along the buckets.
    """
    context = passages.shape[1] - 1
    nll = same_target_nll(
        model,
        passages,
        context,
        target_tokens=context,
        max_tokens_per_batch=max_tokens_per_batch,
        on_forward=on_forward,
    )  # (P, S)
    starts = _starts(context)
    ends = np.append(starts[1:] - 1, context)
    buckets = np.stack(
        [nll[:, a - 1 : b].mean(axis=1) for a, b in zip(starts, ends, strict=True)], axis=1
    )  # (P, K)
    return {
        "from": starts.tolist(),
        "to": ends.tolist(),
        "nll": buckets.mean(axis=0).tolist(),
        "ci95": [mean_ci95(bucket)[1] for bucket in buckets.T],
    }


def _starts(context: int) -> np.ndarray:
    """Powers of two; a last bucket that would be less than half full goes to the one before."""
    starts = 2 ** np.arange(context.bit_length())
    return starts[:-1] if 2 * (context + 1 - starts[-1]) < starts[-1] else starts
