"""Copying of natural text: a passage of held-out text, seen once, comes again.

    copy     [P][text .....................][P]     P: 128 tokens; scored: all but its first 16
    control  [U][text .....................][P]     U: the text before P, in its place
    repeat   [H ..............][H ..............]   period context / 2; the same of the second H
    control  [G ..............][H ..............]   G: the text before H

What the model names right in the control it knows from the language and from the text nearby. The
gain over the control is what it has copied. Training need not have held anything of the kind.

Shapes: N trials.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from evaluation.measures.trials import Row, check_trials, recalled, spread_cuts
from evaluation.statistics import mean_ci95

PASSAGE = 128  # tokens that come again
CUE = 16  # tokens of it by which the model may know it
MOST_SCORED = 256


def measure_copy(
    model: nn.Module,
    documents: Sequence[np.ndarray],
    *,
    context: int,
    trials: int,
    seed: int = 0,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """How much better a passage's last 112 tokens are named when the context begins with it too.

    The distance between the two is `context` - 128 tokens, filled with the text that follows the
    passage in its document. Accuracy is that of the most probable token, the text so far given.

    Args:
        model: (tokens (B, S), logits_to_keep=n) -> logits (B, n, V), in eval mode.
        documents: held-out token ids, one 1-D array per document.
        on_forward: called after each forward with the number of its inputs.

    Returns:
        {"accuracy", "control", "gain", "ci95": [low, high] of the gain (bootstrap over trials;
        None for one trial), "trials"}

    Raises:
        ValueError: a context or documents too short.
    """
    check_trials(trials)
    _check_context(context, 2 * PASSAGE, f"a passage of {PASSAGE} tokens seen twice")
    cuts = spread_cuts(documents, context, trials, seed)

    def control(i: int) -> np.ndarray:
        before, passage, after = np.split(cuts[i], [PASSAGE, 2 * PASSAGE])
        return np.concatenate([before, after, passage])

    def again(i: int) -> np.ndarray:
        _, passage, after = np.split(cuts[i], [PASSAGE, 2 * PASSAGE])
        return np.concatenate([passage, after, passage])

    score = partial(
        recalled,
        model,
        trials=trials,
        scored=PASSAGE - CUE,
        context=context,
        max_tokens_per_batch=max_tokens_per_batch,
        on_forward=on_forward,
    )
    return _figures(score, again, control)


def measure_repeat(
    model: nn.Module,
    documents: Sequence[np.ndarray],
    *,
    context: int,
    trials: int,
    seed: int = 0,
    max_tokens_per_batch: int,
    on_forward: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """As `measure_copy`, where the whole context repeats with a period of `context` / 2.

    Scored is the second period less its first 16 tokens, at most its last 256. Of an odd
    context the last token is left out.
    """
    check_trials(trials)
    half = context // 2
    _check_context(context, 2 * (CUE + 1), f"a repeated text of more than {CUE} tokens")
    cuts = spread_cuts(documents, 2 * half, trials, seed)
    score = partial(
        recalled,
        model,
        trials=trials,
        scored=min(MOST_SCORED, half - CUE),
        context=2 * half,
        max_tokens_per_batch=max_tokens_per_batch,
        on_forward=on_forward,
    )
    return _figures(score, lambda i: np.tile(cuts[i][half:], 2), lambda i: cuts[i])


def _check_context(context: int, least: int, what: str) -> None:
    if context < least:
        raise ValueError(f"context too short: {context} tokens, but {what} needs {least}")


def _figures(score: Callable[..., np.ndarray], again: Row, control: Row) -> dict[str, Any]:
    accuracy, without = (score(row=row).mean(axis=1) for row in (again, control))  # (N,) each
    gain = accuracy - without
    mean, ci95 = mean_ci95(gain)
    return {
        "accuracy": float(accuracy.mean()),
        "control": float(without.mean()),
        "gain": mean,
        "ci95": ci95,
        "trials": len(gain),
    }
