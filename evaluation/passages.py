"""The protocol: the same target tokens, scored with ever longer left context.

The mean loss over windows of a growing length falls by itself, because fewer tokens stand near a
window's start (the early token curse: Press et al. 2022, arXiv:2108.12409). It also compares other
tokens at every length. Here the scored tokens stay the same, the last ones of each passage, and
only the text before them grows. Differences between lengths are therefore paired:

    a passage            . . . . . . . . . . . . t t t t     t: the targets
    context 15 reads    [. . . . . . . . . . . . t t t]      and predicts each next token
    context 7 reads                     [. . . . t t t]      ends at the same place

`evaluation/measures/loss.py` scores the targets; this file chooses the passages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ENOUGH_PASSAGES = 4  # with fewer of them a length is left out; the shortest makes do with one


def passages_for_longest(
    documents: Sequence[np.ndarray], lengths: list[int], count: int
) -> tuple[np.ndarray, dict[int, str]]:
    """Passages of the longest of `lengths` (ascending) that the documents hold enough of.

    Returns the passages, and for each length that is longer the reason why it cannot be run.
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


def choose_passages(documents: Sequence[np.ndarray], length: int, count: int) -> np.ndarray:
    """Cut at most `count` passages of `length` + 1 tokens from `documents`, evenly spread.

    Passages never overlap. None crosses from one document into the next: text from elsewhere is
    no context. Documents that are too short give none, so fewer than `count` may come back.

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
