"""Measure models on the same text with growing context, under each method: the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from data import Tokenizer
from evaluation.aggregate import Results, loss_figures, measure_figures
from evaluation.cells import Cells, Key
from evaluation.engine import cost, run_cells
from evaluation.measures.measure import MAX_TOKENS_PER_BATCH, Material
from evaluation.measures.registry import DEFAULT_MEASURES, MEASURES
from evaluation.passages import passages_for_longest
from evaluation.plan import Condition, Plan, plan_cells
from evaluation.result import Extrapolation
from evaluation.settings import TRIALS, Settings, check_settings
from evaluation.statistics import INTERVAL_RESAMPLES
from evaluation.subject import Subject
from methods.method import DEFAULT_METHODS

OnProgress = Callable[[int, int], None]


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
    max_tokens_per_batch: int = MAX_TOKENS_PER_BATCH,
    on_progress: OnProgress | None = None,
) -> Extrapolation:
    """Measure one model on held-out text with growing context, under each method.

    The model is put in eval mode and its scaling is changed meanwhile; mode and scaling are as
    before when this returns or raises. It runs where the model is, in bfloat16 autocast on CUDA
    and in float32 elsewhere, without compilation (every length would be one of its own).

    Args:
        model: tokens (B, S) -> logits (B, S, V), as `model.Transformer` is, whose
            `set_scaling`, `set_score_scaling` and `config` are used.
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
    _check_tokenizer(settings, tokenizer)
    cells = Cells() if cells is None else cells
    passages, too_long = passages_for_longest(documents, settings.lengths, settings.passages)
    material = _material(settings, documents, passages, tokenizer)
    plans = {s.key: plan_cells(s.config, settings, too_long) for s in subjects}
    assert len(plans) == len(subjects), [subject.key for subject in subjects]
    _run_missing(subjects, plans, material, cells, on_progress)

    n_bytes = np.asarray(token_bytes)[passages[:, -settings.target_tokens :]].sum(axis=1)  # (P,)
    results = Results(plans, cells)
    fit = [n for n in settings.lengths if n not in too_long]
    loss = loss_figures(results, settings, n_bytes, fit)
    measures, unmeasured = measure_figures(results, settings)
    return Extrapolation(
        train_length=settings.train_length,
        lengths=settings.lengths,
        protocol=_protocol(settings, subjects, len(passages), int(n_bytes.sum())),
        methods=loss.methods,
        reasons=loss.reasons,
        checkpoints=[subject.path for subject in subjects if subject.path is not None],
        tax=loss.tax,
        measures=measures,
        unmeasured=unmeasured,
    )


def _material(
    settings: Settings,
    documents: Sequence[np.ndarray],
    passages: np.ndarray,
    tokenizer: Tokenizer | None,
) -> Material:
    return Material(
        documents,
        passages,
        tokenizer,
        settings.train_length,
        settings.target_tokens,
        settings.trials,
        settings.max_tokens_per_batch,
    )


def _check_tokenizer(settings: Settings, tokenizer: Tokenizer | None) -> None:
    needing = [name for name in settings.measures if MEASURES[name].needs_tokenizer]
    if needing and tokenizer is None:
        raise ValueError(
            f"measures=[{needing[0]}]: writes text of its own and needs the model's tokenizer; "
            "pass tokenizer=, or measure [loss,copy]"
        )


def _run_missing(
    subjects: Sequence[Subject],
    plans: dict[str, Plan],
    material: Material,
    cells: Cells,
    on_progress: OnProgress | None,
) -> None:
    """Run what is not there yet; a model with nothing missing is not even loaded."""
    missing = {
        s.key: [at for at in plans[s.key].todo() if Key(s.key, *at) not in cells] for s in subjects
    }
    total = sum(cost(condition, material) for todo in missing.values() for condition in todo)
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if on_progress is not None:
            on_progress(done, total)

    for subject in subjects:
        todo: list[Condition] = missing[subject.key]
        if todo:
            model = subject.load()
            run_cells(model, subject.key, plans[subject.key], todo, material, cells, advance)
            del model  # before the next is loaded


def _protocol(
    settings: Settings, subjects: Sequence[Subject], passages: int, target_bytes: int
) -> dict[str, Any]:
    return {
        "name": "same targets, growing left context",
        "passages": passages,
        "passages_asked": settings.passages,
        "target_tokens": settings.target_tokens,
        "target_bytes": target_bytes,
        "trials": settings.trials,
        "factor": "context / train_length",
        "interval": f"95 % percentile bootstrap over passages, {INTERVAL_RESAMPLES} resamples",
        "precision": subjects[0].precision,
        "model": subjects[0].about,
        "methods": {method.name: method.line for method in settings.methods},
        "measures": {name: MEASURES[name].line for name in settings.measures},
    }
