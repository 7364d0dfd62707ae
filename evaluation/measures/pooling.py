"""How the figures of several checkpoints become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evaluation.statistics import wilson_ci95

Figures = dict[str, Any]  # of one measure in one cell, plain data


def mean_figures(figures: Sequence[Figures]) -> Figures:
    """The mean of each figure: what most measures do.

    The mean of the intervals' ends is no narrower than the interval of the mean. Trials are the
    same for all checkpoints, and at worst the checkpoints agree entirely.
    """
    return _mean(list(figures))


def counted_together(figures: Sequence[Figures]) -> Figures:
    """Means, but the trials of all checkpoints are counted together, by depth and in all."""
    correct = [sum(counts) for counts in zip(*(f["correct"] for f in figures), strict=True)]
    trials = [sum(counts) for counts in zip(*(f["trials"] for f in figures), strict=True)]
    return {
        **mean_figures(figures),
        "correct": correct,
        "trials": trials,
        "accuracy": sum(correct) / sum(trials),
        "ci95": wilson_ci95(sum(correct), sum(trials)),
    }


def worst_decoding(figures: Sequence[Figures]) -> Figures:
    """Means, but the largest difference is kept, and what is impossible for one is so for all."""
    differences = [f["difference"] for f in figures]
    return {
        **mean_figures(figures),
        "difference": None if None in differences else max(differences),
        "possible": all(f["possible"] for f in figures),
        "why": next((f["why"] for f in figures if f["why"]), None),
    }


def _mean(values: list[Any]) -> Any:
    """The mean of nested plain data of one form; None where any is None, text as it stands."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        return {key: _mean([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_mean(list(items)) for items in zip(*values, strict=True)]
    if isinstance(first, (str, bool)):
        return first
    mean = sum(values) / len(values)
    return int(mean) if isinstance(first, int) and mean == int(mean) else mean
