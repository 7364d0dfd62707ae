"""Measure models on the same text with growing context, under each method: the whole of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from data import Tokenizer
from evaluation.cells import Cells
from evaluation.measurement import Measurement, OnProgress, run_missing
from evaluation.measures.registry import DEFAULT_MEASURES
from evaluation.result import Extrapolation
from evaluation.settings import TRIALS, Settings, check_settings
from evaluation.subject import Subject
from methods.method import DEFAULT_METHODS


def measure_extrapolation(
    model: nn.Module,
    documents: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    *,
    train_length: int,
    tokenizer: Tokenizer | None = None,
    lengths: Sequence[int] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    measures: Sequence[str] | str = DEFAULT_MEASURES,
    passages: int = 48,
    target_tokens: int | None = None,
    trials: int = TRIALS,
    max_tokens_per_batch: int | None = None,
    on_progress: OnProgress | None = None,
) -> Extrapolation:
    """Measure one model on held-out text with growing context, under each method.

    The model is put in eval mode and its scaling is changed meanwhile; mode and scaling are as
    before when this returns or raises. It runs where the model is, in bfloat16 autocast on CUDA
    and in float32 elsewhere, without compilation (every length would be one of its own).

    Args:
        model: (tokens (B, S), logits_to_keep=n) -> logits (B, n, V), as `model.Transformer` is,
            whose `set_scaling`, `set_score_scaling` and `config` are used.
        documents: held-out token ids, one 1-D array per document.
        token_bytes: integers (V,), the UTF-8 bytes of each token's text.
        tokenizer: for the measures that write text of their own (passkey, distractors).
        on_progress: called after each forward with (done, total) in input tokens, which are
            nearer to time than a count of forwards is.
        lengths and all others: see `evaluation.check_settings`.

    Raises:
        ValueError: an argument out of range. A cell that cannot be run (documents too short, out
            of memory on CUDA, a method that the model refuses) is None with its reason instead.
    """
    settings = check_settings(
        train_length,
        lengths,
        methods,
        measures,
        passages,
        target_tokens,
        trials,
        max_tokens_per_batch,
    )
    return measure_checkpoints(
        [Subject.in_memory(model)],
        documents,
        token_bytes,
        settings,
        tokenizer=tokenizer,
        on_progress=on_progress,
    )


def measure_checkpoints(
    subjects: Sequence[Subject],
    documents: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    settings: Settings,
    *,
    tokenizer: Tokenizer | None = None,
    cells: Cells | None = None,
    on_progress: OnProgress | None = None,
) -> Extrapolation:
    """Measure several models of one training length and one tokenizer, one after the other.

    Cells that are in `cells` are not measured again, and each new one is added at once.
    Other arguments and errors: as of `measure_extrapolation`.
    """
    cells = Cells() if cells is None else cells
    measurement = Measurement(subjects, documents, token_bytes, settings, tokenizer, cells)
    run_missing([measurement], on_progress)
    return measurement.result()
