"""Trials of retrieval: held-out text for each, and the tokens that the model names right.

A trial is a row of `context` tokens whose last T stand earlier in the row too, so that the model
should be able to name them. The model reads the row as it is (teacher forcing). A token counts
where it is the most probable one.

Shapes: N trials, B of one forward, S context, T scored tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common.rules import at_least, problems, refuse
from evaluation.precision import autocast

Row = Callable[[int], np.ndarray]  # a trial's tokens (S,)


def check_trials(trials: int) -> None:
    """ValueError unless `trials` is a whole number, at least 1."""
    refuse(problems({"trials": trials}, {"trials": at_least(1, 110)}))


def spread_cuts(
    documents: Sequence[np.ndarray], length: int, count: int, seed: int = 0
) -> list[np.ndarray]:
    """`count` cuts of `length` tokens, evenly spread over `documents`: views of them.

    They overlap only where the documents do not hold enough text, and then as little as they can.
    `seed` shifts them all.

    Raises ValueError where no document is long enough.
    """
    rooms = np.array([max(0, len(document) - length + 1) for document in documents], dtype=int)
    if not rooms.sum():
        longest = max(map(len, documents), default=0)
        raise ValueError(f"documents too short: {length} tokens needed, the longest has {longest}")
    stride = length
    if (-(-rooms // stride)).sum() < count:
        stride = max(1, int(rooms.sum()) // count)  # gives at least `count` places
    places = [(d, at) for d, room in enumerate(rooms.tolist()) for at in range(0, room, stride)]
    shift = int(np.random.Philox(key=seed).random_raw()) % 2**20 / 2**20
    picked = [places[int((i + shift) * len(places) / count)] for i in range(count)]
    return [documents[d][at : at + length] for d, at in picked]


def recalled(
    model: nn.Module,
    row: Row,
    trials: int,
    scored: int,
    *,
    context: int,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Whether the model names each of a row's last `scored` tokens: booleans (N, T).

    `row(i)` is trial i, integers (S,) with S = `context` > `scored`.
    """
    device = next(model.parameters()).device
    size = max(1, max_tokens_per_batch // context)
    named = []
    for start in range(0, trials, size):
        rows = np.stack([row(i) for i in range(start, min(start + size, trials))])
        assert rows.shape[1] == context > scored, (rows.shape, context, scored)
        tokens = torch.from_numpy(rows.astype(np.int64))  # (B, S)
        guesses = _most_probable(model, tokens.to(device), scored).cpu()
        named.append((guesses == tokens[:, -scored:]).numpy())
        if on_forward is not None:
            on_forward(tokens.numel())
    return np.concatenate(named)


@torch.inference_mode()
def _most_probable(model: nn.Module, tokens: Tensor, scored: int) -> Tensor:
    """The most probable token at each of the last `scored` places, given those before: (B, T)."""
    with autocast(tokens.device):
        logits = model(tokens, logits_to_keep=scored + 1)  # (B, T + 1, V)
    # The last token was read too, so that the model reads `context` tokens; nothing follows it.
    return logits[:, :-1].argmax(-1)
