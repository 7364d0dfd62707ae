"""Passkey retrieval: a key stated somewhere in held-out text, and asked for at its end.

    text text [the key of qmzha is 40713] text text text [the key of qmzha is 40713
              at one of 11 depths                         asked at the end, answered

The format is that of training on a mixture (`data/passkey.py`); the keys and the text are never
those of training.

Shapes: N trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from data.passkey import (
    DIGITS,
    EVALUATION_KEYS,
    QUESTION,
    STATEMENT,
    character_ids,
    draw_keys,
    draw_names,
    statements,
)
from data.tokenizers import Tokenizer
from evaluation.measures.trials import check_trials, recalled, spread_cuts
from evaluation.statistics import wilson_ci95

DEPTHS = 11  # 0, 0.1, ... 1
ASKED = DIGITS.stop  # tokens of the question and its answer, the last ones of a context
ANSWER = DIGITS.stop - QUESTION
MOST_DISTRACTORS = 4

_NEEDLES = 1 + MOST_DISTRACTORS
_WORDS = 3 * _NEEDLES  # random words of a trial: names, keys, places


def measure_passkey(
    model: nn.Module,
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    *,
    context: int,
    trials: int,
    distractors: int,
    seed: int = 0,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """How often all five digits of a key are named, by depth of the key in the context.

    The model reads `context` tokens in all, the last of which are the question and its answer
    (teacher forcing). The depth is the share of the text before the question that stands before
    the statement; trials go to the 11 depths in turn. `distractors` statements of other names and
    keys stand at random other places. Trial number i of a seed has the same names and keys at
    every context and for every model.

    Args:
        model: tokens (B, S) -> logits (B, S, V), in eval mode.
        documents: held-out token ids, one 1-D array per document.
        distractors: 0 to 4.
        on_forward: called after each forward with the number of its inputs.

    Returns:
        {"accuracy", "ci95": [low, high] (Wilson), "digit_accuracy", "depths", "correct",
        "trials"}: the last three are lists along the depths.

    Raises:
        ValueError: a context or documents too short; a tokenizer that cannot write the task.
    """
    check_trials(trials)
    _check_context(context, distractors)
    asked, stated = _questions(tokenizer, trials, seed)
    words = _words(trials, seed)[:, 2 * _NEEDLES :]
    fillers = spread_cuts(documents, context - ASKED, trials, seed)

    def row(i: int) -> np.ndarray:
        body = fillers[i].astype(np.int64)
        depth = i % DEPTHS / (DEPTHS - 1)
        places = _places(len(body), depth, words[i, :distractors])
        for place, statement in zip(places, stated[i], strict=False):
            body[place : place + STATEMENT] = statement
        return np.concatenate([body, asked[i]])

    named = recalled(
        model,
        row,
        trials,
        ANSWER,
        context=context,
        max_tokens_per_batch=max_tokens_per_batch,
        on_forward=on_forward,
    )
    return _figures(named)


def _check_context(context: int, distractors: int) -> None:
    if distractors not in range(MOST_DISTRACTORS + 1) or isinstance(distractors, bool):
        raise ValueError(f"distractors={distractors}: must be a whole number from 0 to 4")
    # Wherever the others have come to stand, there must be a gap for one more.
    least = ASKED + STATEMENT + distractors * (2 * STATEMENT - 1)
    if context < least:
        raise ValueError(
            f"context too short: {context} tokens, but a passkey with {distractors} distractors "
            f"needs {least}"
        )


def _words(trials: int, seed: int) -> np.ndarray:
    """The random words of every trial, uint64 (N, _WORDS); more trials change none of them."""
    return np.random.Philox(key=seed).random_raw(trials * _WORDS).reshape(trials, _WORDS)


def _questions(tokenizer: Tokenizer, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each trial's question with its answer (N, ASKED), and of its statements.

    Statements are (N, needles, STATEMENT), the one that is asked for first.
    """
    names, keys, _ = np.split(_words(trials, seed), 3, axis=1)
    text = statements(draw_names(names), draw_keys(keys, EVALUATION_KEYS))
    stated = character_ids(tokenizer)[text]
    return stated[:, 0, :ASKED], stated


def _places(length: int, depth: float, words: np.ndarray) -> list[int]:
    """Where statements stand in `length` tokens: one at `depth`, one at random for each word."""
    places = [round(depth * (length - STATEMENT))]
    for word in words.tolist():
        edges = sorted(places)
        starts = [0, *(place + STATEMENT for place in edges)]
        gaps = zip(starts, [*edges, length], strict=True)
        free = [(start, end - start - STATEMENT + 1) for start, end in gaps]
        number = word % sum(max(0, room) for _, room in free)
        for start, room in free:
            if number < room:
                places.append(start + number)
                break
            number -= max(0, room)
    return places


def _figures(named: np.ndarray) -> dict[str, Any]:
    """The measure's figures from booleans (N, digits)."""
    correct = np.asarray(named.all(axis=1))
    depth = np.arange(len(named)) % DEPTHS
    return {
        "accuracy": float(correct.mean()),
        "ci95": wilson_ci95(int(correct.sum()), len(correct)),
        "digit_accuracy": float(named.mean()),
        "depths": [d / (DEPTHS - 1) for d in range(DEPTHS)],
        "correct": np.bincount(depth, weights=correct, minlength=DEPTHS).astype(int).tolist(),
        "trials": np.bincount(depth, minlength=DEPTHS).tolist(),
    }
