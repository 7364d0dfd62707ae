"""The same target tokens, scored with ever longer left context.

Mean loss over windows of a growing length falls by itself, because fewer tokens stand near a
window's start (the early token curse: Press et al. 2022, arXiv:2108.12409), and it compares other
tokens at every length. Here the tokens that are scored stay the same, the last ones of each
passage, and only the text before them grows, so differences between lengths are paired:

    a passage            . . . . . . . . . . . . t t t t     t: the targets
    context 15 reads    [. . . . . . . . . . . . t t t]      and predicts each next token
    context 7 reads                     [. . . . t t t]      ends at the same place

Shapes: P passages, B passages of one forward, S context, T target tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.measures.registry import MAX_TOKENS_PER_BATCH

ENOUGH_PASSAGES = 4  # with fewer of them a length is left out; the shortest makes do with one


def choose_passages(documents: Sequence[np.ndarray], length: int, count: int) -> np.ndarray:
    """Cut at most `count` passages of `length` + 1 tokens from `documents`, evenly spread.

    Passages never overlap and never cross from one document into the next: text from elsewhere
    is no context. Documents that are too short give none, so fewer than `count` may come back.

    Returns:
        int64 (count', length + 1): `length` inputs and, one further on, their targets.
    """
    places = [(d, start) for d, doc in enumerate(documents) for start in _starts(len(doc), length)]
    count = min(count, len(places))
    # The middles of `count` equal parts of the list of places: distinct, since count <= len.
    chosen = [places[(2 * i + 1) * len(places) // (2 * count)] for i in range(count)]
    passages = np.empty((count, length + 1), dtype=np.int64)
    for row, (d, start) in zip(passages, chosen, strict=True):
        row[:] = documents[d][start : start + length + 1]
    return passages


def _starts(n_tokens: int, length: int) -> list[int]:
    """Starts of the disjoint passages that fit a document, with the spare tokens between them."""
    size = length + 1
    fit, spare = divmod(n_tokens, size)
    return [i * size + spare * (i + 1) // (fit + 1) for i in range(fit)]


def passages_for_longest(
    documents: Sequence[np.ndarray], lengths: list[int], count: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Passages of the longest of `lengths` (ascending) that the documents hold enough of.

    Returns them, and for each length that is longer why it cannot be run.
    """
    too_long: dict[int, str] = {}
    for length in reversed(lengths):
        passages = choose_passages(documents, length, count)
        needed = 1 if length == lengths[0] else min(count, ENOUGH_PASSAGES)
        if len(passages) >= needed:
            break
        too_long[length] = (
            f"documents too short: {len(passages)} of at least {needed} passages"
            f" of {length} + 1 tokens (longest document: {max(map(len, documents), default=0)})"
        )
    return passages, too_long


def same_target_nll(
    model: nn.Module,
    passages: np.ndarray,
    context: int,
    target_tokens: int,
    *,
    max_tokens_per_batch: int = MAX_TOKENS_PER_BATCH,
    on_forward: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Score the last `target_tokens` tokens of every passage, read through a window of `context`.

    The window's `context` inputs end just before the passage's last token, so the last target
    has `context` tokens on its left and the first one `context` - `target_tokens` + 1.

    Args:
        model: tokens (B, S) -> logits (B, S, V); call it in eval mode.
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
    bf16 = windows.device.type == "cuda"
    with torch.autocast("cuda", dtype=torch.bfloat16) if bf16 else nullcontext():
        logits = model(windows[:, :-1])  # (B, S, V)
    # Slice before the cast: float32 logits of a whole long window would be the largest tensor.
    logits = logits[:, -target_tokens:].float()  # (B, T, V)
    targets = windows[:, -target_tokens:]  # (B, T)
    nll = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return nll.view_as(targets).cpu().double()
