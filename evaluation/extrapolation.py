"""Measure a model at lengths × methods: each cell is the same targets under one of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluation.methods import DEFAULT_METHODS, Method, applied
from evaluation.protocol import (
    INTERVAL_RESAMPLES,
    MAX_TOKENS_PER_BATCH,
    bits_per_byte,
    bootstrap_ci95,
    passages_for_longest,
    same_target_nll,
)
from evaluation.settings import check_settings

_Key = tuple[str, int]  # method, length


@dataclass(frozen=True)
class Extrapolation:
    """The measured grid, plain data throughout: `dataclasses.asdict` of it is JSON.

    Attributes:
        train_length: the inputs of a training window.
        lengths: the contexts measured, ascending.
        protocol: what was scored and how, and a line on each method.
        methods: name -> {"nll": nats per token, "bpb": bits per byte, "ci95": [low, high] of the
            bpb}, each a list along `lengths`; None where a length was not run (ci95 also where
            there was one passage only).
        reasons: name -> {length as text: why that cell was not run}.
    """

    train_length: int
    lengths: list[int]
    protocol: dict[str, Any]
    methods: dict[str, dict[str, list]]
    reasons: dict[str, dict[str, str]]


@dataclass(frozen=True)
class _Cell:
    """One length under one method: the figures, or why there are none."""

    nll: float | None = None
    bpb: float | None = None
    ci95: list[float] | None = None
    reason: str | None = None


def measure_extrapolation(
    model: nn.Module,
    documents: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    *,
    train_length: int,
    lengths: Sequence[int] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    passages: int = 48,
    target_tokens: int | None = None,
    max_tokens_per_batch: int = MAX_TOKENS_PER_BATCH,
    on_progress: Callable[[int, int], None] | None = None,
) -> Extrapolation:
    """Score the same held-out tokens with growing context, under each method.

    The model is put in eval mode and its scaling is changed meanwhile; mode and scaling are as
    before when this returns or raises. It runs where the model is, in bfloat16 autocast on CUDA
    and in float32 elsewhere, without compilation (every length would be one of its own).

    Args:
        model: tokens (B, S) -> logits (B, S, V), as `model.Transformer` is, whose
            `set_scaling`, `set_score_scaling` and `config` are used.
        documents: held-out token ids, one 1-D array per document.
        token_bytes: integers (V,), the UTF-8 bytes of each token's text.
        lengths: contexts in tokens; by default 1, 2, 4 and 8 times `train_length`.
        methods: names as `evaluation.parse_method` reads them.
        passages: how many to score; fewer where the documents hold fewer.
        target_tokens: tokens scored per passage; by default half the training length, at most 256.
        max_tokens_per_batch: inputs of one forward; a single passage may go past it.
        on_progress: called after each forward with (done, total) in input tokens, which are
            nearer to time than a count of forwards is.

    Raises:
        ValueError: an argument out of range. A cell that cannot be run (documents too short, out
            of memory on CUDA, a method that the model refuses) is None with its reason instead.
    """
    lengths, methods, target_tokens = check_settings(
        train_length, lengths, methods, passages, target_tokens, max_tokens_per_batch
    )
    chosen, too_long = passages_for_longest(documents, lengths, passages)
    named = {method.name: method for method in (Method(), *methods)}
    sources, unrun = _plan(model, methods, lengths, train_length, too_long)
    n_bytes = np.asarray(token_bytes)[chosen[:, -target_tokens:]].sum(axis=1)  # (P,)
    score = partial(
        same_target_nll,
        model,
        chosen,
        target_tokens=target_tokens,
        max_tokens_per_batch=max_tokens_per_batch,
    )
    measured = _measure(
        model, named, set(sources.values()), score, n_bytes, train_length, on_progress
    )
    protocol = {
        "name": "same targets, growing left context",
        "passages": len(chosen),
        "passages_asked": passages,
        "target_tokens": target_tokens,
        "target_bytes": int(n_bytes.sum()),
        "factor": "context / train_length",
        "interval": f"95 % percentile bootstrap over passages, {INTERVAL_RESAMPLES} resamples",
        "precision": _precision(model),
        "methods": {method.name: method.line for method in methods},
    }
    cells = unrun | {key: measured[source] for key, source in sources.items()}
    return _assemble(train_length, lengths, list(protocol["methods"]), protocol, cells)


def _plan(
    model: nn.Module,
    methods: list[Method],
    lengths: list[int],
    train_length: int,
    too_long: dict[int, str],
) -> tuple[dict[_Key, _Key], dict[_Key, _Cell]]:
    """For each cell the one to measure for it, and the cells that cannot be run.

    Where a method leaves the model as it is, the cell of `none` stands for it.
    """
    sources: dict[_Key, _Key] = {}
    unrun: dict[_Key, _Cell] = {}
    for method, length in product(methods, lengths):
        key = method.name, length
        reason = too_long.get(length) or method.refusal(model.config, train_length)
        if reason is not None:
            unrun[key] = _Cell(reason=reason)
        else:
            same = method.leaves_as_trained(model.config, context=length, train_length=train_length)
            sources[key] = (Method().name, length) if same else key
    return sources, unrun


def _assemble(
    train_length: int,
    lengths: list[int],
    methods: list[str],
    protocol: dict[str, Any],
    cells: dict[_Key, _Cell],
) -> Extrapolation:
    figures = {
        name: {
            field: [getattr(cells[name, n], field) for n in lengths]
            for field in ("nll", "bpb", "ci95")
        }
        for name in methods
    }
    reasons = {
        name: {str(n): cells[name, n].reason for n in lengths if cells[name, n].reason}
        for name in methods
    }
    return Extrapolation(
        train_length=train_length,
        lengths=lengths,
        protocol=protocol,
        methods=figures,
        reasons={name: by_length for name, by_length in reasons.items() if by_length},
    )


def _measure(
    model: nn.Module,
    methods: dict[str, Method],
    keys: set[_Key],
    score: Callable[..., np.ndarray],
    n_bytes: np.ndarray,
    train_length: int,
    on_progress: Callable[[int, int], None] | None,
) -> dict[_Key, _Cell]:
    # Short before long: much is known early, and a length that does not fit comes last.
    todo = sorted(keys, key=lambda key: (key[1], list(methods).index(key[0])))
    total = len(n_bytes) * sum(length for _, length in todo)
    done, cell_end = 0, 0

    def advance(tokens: int) -> None:
        nonlocal done
        done += tokens
        if on_progress is not None:
            on_progress(done, total)

    cells: dict[_Key, _Cell] = {}
    with _evaluating(model):
        for name, length in todo:
            with applied(methods[name], model, context=length, train_length=train_length):
                cells[name, length] = _measure_cell(score, length, n_bytes, advance)
            cell_end += len(n_bytes) * length
            if done < cell_end:  # it was given up half-way
                advance(cell_end - done)
    return cells


def _measure_cell(
    score: Callable[..., np.ndarray],
    length: int,
    n_bytes: np.ndarray,
    on_forward: Callable[[int], None],
) -> _Cell:
    try:
        nll = score(length, on_forward=on_forward)  # (P, T)
    except torch.cuda.OutOfMemoryError:
        nll = None
    except ValueError as error:  # position=learned, past the last position that it has learned
        return _Cell(reason=str(error))
    if nll is None:  # outside the except clause, whose exception keeps the tensors alive
        torch.cuda.empty_cache()
        return _Cell(reason="out of GPU memory")
    if not np.isfinite(nll).all():
        return _Cell(reason="the loss is not finite")
    nats = nll.sum(axis=1)
    return _Cell(
        nll=float(nll.mean()),
        bpb=bits_per_byte(nats, n_bytes),
        ci95=bootstrap_ci95(nats, n_bytes),
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, uncompiled; every submodule's own mode is back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    compiled = any(module._compiled_call_impl is not None for module, _ in modes)
    try:
        model.eval()
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _precision(model: nn.Module) -> str:
    weight = next(model.parameters())
    if weight.device.type == "cuda":
        return "bfloat16 autocast on cuda"
    return f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
