"""Measure models at lengths × methods: each cell is the same text under one of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from data import Tokenizer
from evaluation.aggregate import Results, loss_figures, measure_figures
from evaluation.cells import Cells, Key
from evaluation.grid import Place, Plan, cost, plan_cells, run_cells
from evaluation.measures.loss import passages_for_longest
from evaluation.measures.registry import (
    DEFAULT_MEASURES,
    MAX_TOKENS_PER_BATCH,
    MEASURES,
    Material,
)
from evaluation.settings import TRIALS, Settings, check_settings
from evaluation.statistics import INTERVAL_RESAMPLES
from methods.method import DEFAULT_METHODS

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Extrapolation:
    """The measured grid, plain data throughout: `dataclasses.asdict` of it is JSON.

    Lists go along `lengths`, with None where a length was not run; intervals are [low, high], and
    None also where there was one passage only.

    Attributes:
        train_length: the inputs of a training window.
        lengths: the contexts measured, ascending.
        protocol: what was scored and how, and a line on each method and measure.
        checkpoints: where the models came from; with several, figures are means over them.
        methods: name -> {"nll": nats per token, "bpb": bits per byte, "ci95" of it,
            "difference": nats per token less those of the model as trained at the training
            length, on the same passages, "difference_ci95", "perplexity_ratio": exp of it,
            "perplexity_ratio_ci95", "per_checkpoint": a list of nll for each checkpoint,
            "tokens_per_second", "peak_memory_bytes" (the largest of any checkpoint)}.
        tax: name -> {"nll", "ci95"}: the difference at the training length.
        measures: measure -> name -> length as text -> the figures of that measure, with those
            of each checkpoint under "per_checkpoint" where there are several.
        reasons: name -> {length as text: why its loss was not measured}.
        unmeasured: measure -> name -> {length as text: why it was not measured}.
    """

    train_length: int
    lengths: list[int]
    protocol: dict[str, Any]
    methods: dict[str, dict[str, list]]
    reasons: dict[str, dict[str, str]]
    checkpoints: list[str] = field(default_factory=list)
    tax: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, dict[str, dict[str, dict[str, Any]]]] = field(default_factory=dict)
    unmeasured: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A model to measure, loaded when its turn has come.

    Attributes:
        key: names its cells; a digest of the checkpoint, say.
        path: where it came from, for the reader; None for a model in memory.
        config: the model's `config`.
        load: the model, where it is to run.
        precision: what it computes in, in words.
        about: what sets it apart, plain data: position, theta, parameters, ….
    """

    key: str
    path: str | None
    config: Any
    load: Callable[[], nn.Module]
    precision: str
    about: dict[str, Any]

    @classmethod
    def in_memory(cls, model: nn.Module) -> Subject:
        """A model that is there already."""
        weight = next(model.parameters())
        precision = precision_of(weight.device.type, str(weight.dtype).removeprefix("torch."))
        return cls("model", None, model.config, lambda: model, precision, describe(model))


def precision_of(device: str, dtype: str = "float32") -> str:
    """What a model of `dtype` weights is measured in on a type of device, in words."""
    return "bfloat16 autocast on cuda" if device == "cuda" else f"{dtype} on {device}"


def describe(model: nn.Module) -> dict[str, Any]:
    """What a table of many models would list of this one."""
    config = model.config
    names = ("position", "theta", "fraction", "window", "n_layers", "d_model", "n_heads")
    about = {name: getattr(config, name) for name in names if getattr(config, name, None)}
    about["trained_scaling"] = config.scaling.method
    return about | {"parameters": sum(parameter.numel() for parameter in model.parameters())}


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
    chosen, too_long = passages_for_longest(documents, settings.lengths, settings.passages)
    material = Material(
        documents,
        chosen,
        tokenizer,
        settings.train_length,
        settings.target_tokens,
        settings.trials,
        settings.max_tokens_per_batch,
    )
    plans = {s.key: plan_cells(s.config, settings, too_long) for s in subjects}
    assert len(plans) == len(subjects), [subject.key for subject in subjects]
    _run_missing(subjects, plans, material, cells, on_progress)

    n_bytes = np.asarray(token_bytes)[chosen[:, -settings.target_tokens :]].sum(axis=1)  # (P,)
    results = Results(plans, cells)
    fit = [n for n in settings.lengths if n not in too_long]
    methods, tax, reasons = loss_figures(results, settings, n_bytes, fit)
    measures, unmeasured = measure_figures(results, settings)
    return Extrapolation(
        settings.train_length,
        settings.lengths,
        _protocol(settings, subjects, len(chosen), int(n_bytes.sum())),
        methods,
        reasons,
        [subject.path for subject in subjects if subject.path is not None],
        tax,
        measures,
        unmeasured,
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
    total = sum(cost(place, material) for todo in missing.values() for place in todo)
    done = 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if on_progress is not None:
            on_progress(done, total)

    for subject in subjects:
        todo: list[Place] = missing[subject.key]
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
