"""The loss of the same target tokens through a window of any length.

`evaluation/passages.py` tells why the targets stay the same.

Shapes: P passages, B passages of one forward, S context, T target tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.precision import autocast


def same_target_nll(
    model: nn.Module,
    passages: np.ndarray,
    context: int,
    target_tokens: int,
    *,
    max_tokens_per_batch: int = 16_384,
    on_forward: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Score the last `target_tokens` tokens of every passage, read through a window of `context`.

    The window's `context` inputs end just before the passage's last token, so the last target
    has `context` tokens on its left and the first one `context` - `target_tokens` + 1.

    Args:
        model: (tokens (B, S), logits_to_keep=n) -> logits (B, n, V) after the last n tokens;
            call it in eval mode.
        passages: integers (P, at least `context` + 1).
        max_tokens_per_batch: inputs of one forward; a single passage may go past it.
        on_forward: called after each forward with the number of its inputs.

    Returns:
        float64 (P, T): nats, -log p(target | its context).
    """
    assert 1 <= target_tokens <= context < passages.shape[1], (target_tokens, context)
    device = next(model.parameters()).device
    windows = torch.from_numpy(passages[:, -(context + 1) :])  # (P, S + 1)
    nats = []
    for batch in windows.split(max(1, max_tokens_per_batch // context)):
        nats.append(_forward_nll(model, batch.to(device), target_tokens))
        if on_forward is not None:
            on_forward(len(batch) * context)
    return torch.cat(nats).numpy()


@torch.inference_mode()
def _forward_nll(model: nn.Module, windows: Tensor, target_tokens: int) -> Tensor:
    with autocast(windows.device):
        # Those of a whole long window would be the largest tensor by far.
        logits = model(windows[:, :-1], logits_to_keep=target_tokens)  # (B, T, V)
    targets = windows[:, -target_tokens:]  # (B, T)
    nll = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return nll.view_as(targets).cpu().double()
