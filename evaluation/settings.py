"""What an extrapolation measurement is asked for, checked before a model is run or even trained."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.methods import Method, check_methods

MULTIPLES = (1, 2, 4, 8)  # of the training length, where no lengths are asked for


def check_settings(
    train_length: int,
    lengths: Sequence[int] | None,
    methods: Sequence[str],
    passages: int,
    target_tokens: int | None,
    max_tokens_per_batch: int,
) -> tuple[list[int], list[Method], int]:
    """The lengths, methods and target tokens that `measure_extrapolation` would use.

    ValueError for what it would refuse, so that this is known before a model has been trained.
    """
    _check_count("passages", passages)
    _check_count("max_tokens_per_batch", max_tokens_per_batch)
    lengths = _check_lengths(lengths, train_length)
    target_tokens = _check_target_tokens(target_tokens, lengths, train_length)
    return lengths, check_methods(methods), target_tokens


def _check_count(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value}: must be a whole number, at least 1")


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
