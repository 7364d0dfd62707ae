"""What an extrapolation measurement is asked for, checked before a model is run or even trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.measures.measure import MAX_TOKENS_PER_BATCH
from evaluation.measures.registry import DEFAULT_MEASURES, check_measures
from methods.method import DEFAULT_METHODS, Method, check_methods

MULTIPLES = (1, 2, 4, 8)  # of the training length, where no lengths are asked for
TRIALS = 110  # 10 at each of 11 depths


@dataclass(frozen=True)
class Settings:
    """A measurement's settings, complete and in range.

    Attributes:
        train_length: the inputs of a training window.
        lengths: contexts in tokens, ascending.
        methods: without repeats.
        measures: names in `evaluation.measures.registry.MEASURES`, in that order.
        passages: how many to score; fewer where the documents hold fewer.
        target_tokens: scored in each passage.
        trials: of each passkey and copy cell.
        max_tokens_per_batch: inputs of one forward; a single passage may go past it.
    """

    train_length: int
    lengths: list[int]
    methods: list[Method]
    measures: list[str]
    passages: int
    target_tokens: int
    trials: int
    max_tokens_per_batch: int


def check_settings(
    train_length: int,
    lengths: Sequence[int] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    measures: Sequence[str] | str = DEFAULT_MEASURES,
    passages: int = 48,
    target_tokens: int | None = None,
    trials: int = TRIALS,
    max_tokens_per_batch: int = MAX_TOKENS_PER_BATCH,
) -> Settings:
    """The settings that a measurement would use: None is replaced by what it stands for.

    `lengths`: by default 1, 2, 4 and 8 times `train_length`; `target_tokens`: by default half of
    it, at most 256. `methods` are names as `evaluation.parse_method` reads them, `measures` names
    of `evaluation.MEASURES` or "all".

    ValueError for what is out of range, so that this is known before a model has been trained.
    """
    _check_count("passages", passages)
    _check_count("trials", trials)
    _check_count("max_tokens_per_batch", max_tokens_per_batch)
    lengths = _check_lengths(lengths, train_length)
    target_tokens = _check_target_tokens(target_tokens, lengths, train_length)
    return Settings(
        train_length,
        lengths,
        check_methods(methods),
        check_measures(measures),
        passages,
        target_tokens,
        trials,
        max_tokens_per_batch,
    )


def check_lengths_fit(
    lengths: Sequence[int] | None, documents: Sequence[np.ndarray], key: str = "lengths"
) -> None:
    """ValueError where one of the lengths asked for is longer than every document (token ids).

    Those that follow from the training length (None) are left out by themselves.
    """
    most = max(map(len, documents), default=0) - 1  # one token more is the last target
    if lengths is not None and max(lengths) > most:
        works = [n for n in lengths if n <= most] or [most]
        raise ValueError(
            f"{key}=[{max(lengths)}]: longer than the text, whose longest document has "
            f"{most + 1} tokens; try {key}=[{','.join(map(str, works))}]"
        )


def _check_count(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value}: must be a whole number, at least 1; for instance 16")


def _check_lengths(lengths: Sequence[int] | None, train_length: int) -> list[int]:
    _check_count("train_length", train_length)
    works = [multiple * train_length for multiple in MULTIPLES]
    if lengths is None:
        return works
    if not isinstance(lengths, (list, tuple)):
        raise ValueError(f"lengths={lengths}: must be a list; for instance {works}")
    wrong = [n for n in lengths if isinstance(n, bool) or not isinstance(n, int) or n < 1]
    if wrong or not lengths:
        shown = ", ".join(map(str, wrong))
        raise ValueError(
            f"lengths=[{shown}]: must be whole numbers of tokens, at least 1; for instance {works}"
        )
    return sorted(set(lengths))


def _check_target_tokens(target_tokens: int | None, lengths: list[int], train_length: int) -> int:
    if target_tokens is None:
        return max(1, min(train_length // 2, 256, lengths[0]))
    _check_count("target_tokens", target_tokens)
    if target_tokens > lengths[0]:
        raise ValueError(
            f"target_tokens={target_tokens}: must be at most the shortest of lengths={lengths},"
            f" since the same targets are scored at all of them; valid: 1 to {lengths[0]}"
        )
    return target_tokens
