"""Passkey retrieval: a key stated somewhere in held-out text, and asked for at its end.

    text text [the key of qmzha is 40713] text text text [the key of qmzha is 40713
              at one of 11 depths                         asked at the end, answered

The format is that of training on a mixture (`data/passkey.py`), for models that read characters;
the keys and the text are never those of training. Others are asked in plain words
(`passkey_words.py`), which no training here has taught them.

Shapes: N trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from data.tokenizers import ByteTokenizer, CharTokenizer, Tokenizer
from evaluation.measures.passkey_words import Words, prompt, questions
from evaluation.measures.trials import Row, check_trials, recalled, spread_cuts
from evaluation.statistics import wilson_ci95

DEPTHS = 11  # 0, 0.1, ... 1
ASKED = DIGITS.stop  # tokens of the question and its answer, the last ones of a context
ANSWER = DIGITS.stop - QUESTION
MOST_DISTRACTORS = 4
OF_CHARACTERS = (ByteTokenizer.name, CharTokenizer.name)
IN_WORDS = "plain words"

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
    beginning: Sequence[int] = (),
    seed: int = 0,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """How often all digits of a key are named, by depth of the key in the context.

    The model reads `context` tokens in all, the last of which are the question and its answer
    (teacher forcing). The depth is the share of the text before the question that stands before
    the statement; trials go to the 11 depths in turn. `distractors` statements of other names and
    keys stand at random other places. Trial number i of a seed has the same names and keys at
    every context and for every model.

    Args:
        model: (tokens (B, S), logits_to_keep=n) -> logits (B, n, V), in eval mode.
        documents: held-out token ids, one 1-D array per document.
        distractors: 0 to 4.
        beginning: tokens that a context begins with, before all text (of one in plain words).
        on_forward: called after each forward with the number of its inputs.

    Returns:
        {"accuracy", "ci95": [low, high] (Wilson), "digit_accuracy": share of the tokens of all
        answers, "depths", "correct", "trials": lists along the depths}, and "prompt" where it
        was asked in plain words.

    Raises:
        ValueError: a context or documents too short; a vocabulary that cannot write the task.
    """
    check_trials(trials)
    if distractors not in range(MOST_DISTRACTORS + 1) or isinstance(distractors, bool):
        raise ValueError(f"distractors={distractors}: must be a whole number from 0 to 4")
    words, in_words = _words(trials, seed), tokenizer.name not in OF_CHARACTERS
    task = (documents, tokenizer, context, distractors, words, seed)
    row, answers = _in_words(*task, beginning) if in_words else _in_characters(*task)
    named = recalled(
        model,
        row,
        trials,
        int(answers.max()),
        context=context,
        max_tokens_per_batch=max_tokens_per_batch,
        on_forward=on_forward,
    )
    return _figures(named, answers) | ({"prompt": IN_WORDS} if in_words else {})


class _Trials(NamedTuple):
    """The context of each trial, and how many tokens at its end are the answer: (N,)."""

    row: Row
    answers: np.ndarray


def _in_characters(
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    context: int,
    distractors: int,
    words: np.ndarray,
    seed: int,
) -> _Trials:
    """In the format of training, a token for each character."""
    _check_context(context, distractors)
    asked, stated = _questions(tokenizer, words)
    fillers = spread_cuts(documents, context - ASKED, len(words), seed)

    def row(i: int) -> np.ndarray:
        body = fillers[i].astype(np.int64)
        places = _places(len(body), _depth(i), words[i, 2 * _NEEDLES :][:distractors])
        for place, statement in zip(places, stated[i], strict=False):
            body[place : place + STATEMENT] = statement
        return np.concatenate([body, asked[i]])

    return _Trials(row, np.full(len(words), ANSWER))


def _in_words(
    documents: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    context: int,
    distractors: int,
    words: np.ndarray,
    seed: int,
    beginning: Sequence[int],
) -> _Trials:
    """In plain words, in the tokens of any tokenizer."""
    names, keys, others = np.split(words, 3, axis=1)
    asked = questions(tokenizer, names, draw_keys(keys, EVALUATION_KEYS), distractors)
    first = np.array(beginning, dtype=np.int64)
    if context <= (least := len(first) + max(one.tokens for one in asked)):
        raise _too_short(context, distractors, least + 1)
    texts = spread_cuts(documents, context - len(first), len(words), seed)
    seams = Words(tokenizer)

    def row(i: int) -> np.ndarray:
        places = others[i, :distractors] / 2.0**64
        return np.concatenate([first, prompt(asked[i], texts[i], seams, [_depth(i), *places])])

    return _Trials(row, np.array([one.answer for one in asked]))


def _depth(i: int) -> float:
    """The share of a trial's text that stands before its statement."""
    return i % DEPTHS / (DEPTHS - 1)


def _check_context(context: int, distractors: int) -> None:
    # Wherever the others have come to stand, there must be a gap for one more.
    least = ASKED + STATEMENT + distractors * (2 * STATEMENT - 1)
    if context < least:
        raise _too_short(context, distractors, least)


def _too_short(context: int, distractors: int, least: int) -> ValueError:
    return ValueError(
        f"context too short: {context} tokens, but a passkey with {distractors} distractors "
        f"needs {least}"
    )


def _words(trials: int, seed: int) -> np.ndarray:
    """The random words of every trial, uint64 (N, _WORDS); more trials change none of them."""
    return np.random.Philox(key=seed).random_raw(trials * _WORDS).reshape(trials, _WORDS)


def _questions(tokenizer: Tokenizer, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each trial's question with its answer (N, ASKED), and of its statements.

    Statements are (N, needles, STATEMENT), the one that is asked for first.
    """
    names, keys, _ = np.split(words, 3, axis=1)
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


def _figures(named: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """The measure's figures from booleans (N, T), of which the last `answers` (N,) count."""
    asked = np.arange(named.shape[1]) >= named.shape[1] - answers[:, None]
    correct = np.asarray((named | ~asked).all(axis=1))
    depth = np.arange(len(named)) % DEPTHS
    return {
        "accuracy": float(correct.mean()),
        "ci95": wilson_ci95(int(correct.sum()), len(correct)),
        "digit_accuracy": float(named[asked].mean()),
        "depths": [d / (DEPTHS - 1) for d in range(DEPTHS)],
        "correct": np.bincount(depth, weights=correct, minlength=DEPTHS).astype(int).tolist(),
        "trials": np.bincount(depth, minlength=DEPTHS).tolist(),
    }
