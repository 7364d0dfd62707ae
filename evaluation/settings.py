"""What an extrapolation measurement is asked for, checked before a model is run or even trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.rules import at_least, integer, list_of, optional, problems, refuse
from evaluation.measures.registry import DEFAULT_MEASURES, MEASURES, MEASURES_RULE, check_measures
from evaluation.passages import passages_for_longest
from methods.method import DEFAULT_METHODS, Method, check_methods, method_problems

MULTIPLES = (1, 2, 4, 8)  # of the training length, where no lengths are asked for
TRIALS = 110  # 10 at each of 11 depths
RULES = {
    "lengths": optional(list_of(at_least(1, 256))),
    "measures": MEASURES_RULE,
    "passages": at_least(1, 16),
    "target_tokens": optional(at_least(1, 128)),
    "trials": integer(1, 1_000_000, 110),
    "max_tokens_per_batch": optional(at_least(1, 4096)),
}


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
        max_tokens_per_batch: inputs of one forward; a single passage may go past it. None: what
            suits the device (`evaluation.measures.measure.TOKENS_PER_BATCH`).
    """

    train_length: int
    lengths: list[int]
    methods: list[Method]
    measures: list[str]
    passages: int
    target_tokens: int
    trials: int
    max_tokens_per_batch: int | None


def check_settings(
    train_length: int,
    lengths: Sequence[int] | None = None,
    methods: Sequence[str] = DEFAULT_METHODS,
    measures: Sequence[str] | str = DEFAULT_MEASURES,
    passages: int = 48,
    target_tokens: int | None = None,
    trials: int = TRIALS,
    max_tokens_per_batch: int | None = None,
) -> Settings:
    """The settings that a measurement would use: None is replaced by what it stands for.

    `lengths`: by default 1, 2, 4 and 8 times `train_length`; `target_tokens`: by default half of
    it, at most 256. `methods` are names as `evaluation.parse_method` reads them, `measures` names
    of `evaluation.MEASURES` or "all".

    ValueError for what is out of range, so that this is known before a model has been trained.
    """
    sizes = {"passages": passages, "target_tokens": target_tokens, "trials": trials}
    sizes["max_tokens_per_batch"] = max_tokens_per_batch
    given = {"lengths": lengths, "methods": methods, "measures": measures, **sizes}
    refuse(problems({"train_length": train_length}, {"train_length": at_least(1, 256)}))
    refuse(setting_problems(given, train_length))
    lengths = _lengths(lengths, train_length)
    return Settings(
        train_length,
        lengths,
        check_methods(methods),
        check_measures(measures),
        passages,
        max(1, min(train_length // 2, 256, lengths[0])) if target_tokens is None else target_tokens,
        trials,
        max_tokens_per_batch,
    )


def setting_problems(
    settings: Mapping[str, Any], train_length: int | None = None, prefix: str = ""
) -> list[str]:
    """A line for each broken rule on the keyword arguments of `check_settings`, by key.

    `train_length`: None where it is not known yet. `prefix`: of the keys in a config.
    """
    lines = problems(settings, RULES, prefix) + method_problems(settings["methods"], prefix)
    targets = settings["target_tokens"]
    if lines or targets is None or (train_length is None and settings["lengths"] is None):
        return lines
    lengths = _lengths(settings["lengths"], train_length or 1)
    if targets <= lengths[0]:
        return []
    return [
        f"{prefix}target_tokens={targets}: must be at most the shortest of lengths={lengths}, "
        f"since the same targets are scored at all of them; valid: 1 to {lengths[0]}"
    ]


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


def check_text_is_enough(settings: Settings, documents: Sequence[np.ndarray]) -> None:
    """ValueError where every document is too short for the shortest of the lengths."""
    most, shortest = max(map(len, documents), default=0), settings.lengths[0]
    if most <= shortest:
        shorter = f"try lengths=[{most - 1}], " if most > 1 else "try "
        raise ValueError(
            f"lengths={settings.lengths}: the text is too short for the shortest, which needs "
            f"{shortest + 1} tokens; its longest document has {most}; {shorter}data=stdlib, or "
            "another data.path="
        )


def check_passages_fit(
    settings: Settings, documents: Sequence[np.ndarray], key: str = "passages"
) -> None:
    """ValueError where the documents hold fewer passages than were asked for by name.

    A measurement by itself makes do with those that there are.
    """
    passages, _ = passages_for_longest(documents, settings.lengths, settings.passages)
    count, size = passages.shape
    if count < settings.passages:
        raise ValueError(
            f"{key}={settings.passages}: the text holds {count} of {size} tokens, which the "
            f"longest of lengths={settings.lengths} that it allows needs; try {key}={count}"
        )


def unread(settings: Mapping[str, Any], typed: Mapping[str, str], prefix: str = "") -> list[str]:
    """A line for each of the user's overrides, by key, that no chosen measure reads."""
    chosen = check_measures(settings["measures"])
    readers: dict[str, list[str]] = {}
    for name, measure in MEASURES.items():
        for key in measure.reads:
            readers.setdefault(key, []).append(name)
    return [
        f"{typed[prefix + key]}: only measures={'/'.join(names)} read it; leave it out"
        for key, names in readers.items()
        if prefix + key in typed and not set(names) & set(chosen)
    ]


def _lengths(lengths: Sequence[int] | None, train_length: int) -> list[int]:
    return sorted(set(lengths or [multiple * train_length for multiple in MULTIPLES]))
