"""Figures that can be subtracted, and which of several is best beyond the interval of that.

The loss is known by passage: its differences are paired, and what makes a passage hard for every
method cancels. Other measures are known by a value and its interval: their differences are those
of independent trials. Trials are the same for all methods, so that such an interval is rather too
wide than too narrow.

Shapes: P passages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.aggregate import Results, mean_nats, pool
from evaluation.measures.registry import MEASURES
from evaluation.plan import Condition
from evaluation.settings import Settings
from evaluation.statistics import bits_per_byte, bootstrap_ci95, difference_ci95, paired_ci95

# With fewer, chance alone makes all of them agree more often than once in twenty times.
FEWEST_PASSAGES = 6
# Bits per byte: half of the last digit that tables show. Below it, rounding may be all there is.
RESOLUTION = 5e-4

Interval = list[float] | None


@dataclass(frozen=True)
class Paired:
    """Bits per byte of passages: `nats` (P,) of their targets, `n_bytes` (P,) of the same."""

    nats: np.ndarray
    n_bytes: np.ndarray

    @property
    def value(self) -> float:
        """Bits per byte of all passages."""
        return bits_per_byte(self.nats, self.n_bytes)

    @property
    def ci95(self) -> Interval:
        """Of `value`, over passages."""
        return bootstrap_ci95(self.nats, self.n_bytes)

    def less(self, other: Paired) -> tuple[float, Interval]:
        """This less the other on the same passages, and the interval, paired over passages.

        None in place of an interval of fewer than `FEWEST_PASSAGES`.
        """
        by_passage = self.nats - other.nats
        enough = len(by_passage) >= FEWEST_PASSAGES
        interval = paired_ci95(by_passage, self.n_bytes) if enough else None
        return bits_per_byte(by_passage, self.n_bytes), interval

    def is_same(self, other: Paired) -> bool:
        """Whether no table would set the two apart: mostly they are one function."""
        return abs(self.value - other.value) < RESOLUTION


@dataclass(frozen=True)
class Unpaired:
    """A headline and its interval."""

    value: float
    ci95: Interval

    def less(self, other: Unpaired) -> tuple[float, Interval]:
        """This less the other, and the interval; None where either has none."""
        difference = self.value - other.value
        if self.ci95 is None or other.ci95 is None:
            return difference, None
        return difference, difference_ci95(self.value, self.ci95, other.value, other.ci95)

    def is_same(self, other: Unpaired) -> bool:
        """Whether nothing sets the two apart."""
        return self == other


Estimate = Paired | Unpaired


def estimate(
    results: Results, condition: Condition, n_bytes: np.ndarray
) -> tuple[Estimate | None, str | None]:
    """What was found under a condition, or else why nothing was; (None, None): not asked for.

    `n_bytes`: (P,) of the targets.
    """
    found = results.at(condition)
    if found is None or found.reason is not None:
        return None, found and found.reason
    if condition.measure == "loss":
        return Paired(mean_nats(found.cells), n_bytes), None
    figures = pool(condition.measure, [c.figures for c in found.cells if c.figures is not None])
    value = MEASURES[condition.measure].headline(figures)
    return (None if value is None else Unpaired(value, headline_ci95(figures))), None


def headline_ci95(figures: Mapping[str, Any]) -> Interval:
    """The interval of a measure's headline; where each bucket has one, the headline is the last."""
    found = figures.get("ci95")
    if not found or isinstance(found[0], (int, float)):
        return found
    return found[-1]


def best_of(estimates: Mapping[str, Any], measure: str) -> list[str]:
    """The names that are better than every other beyond the 95 % interval of the difference.

    Names with the same figures count as one. None where one cannot be told from the best, where a
    difference has no interval, or where all are the same. Of estimates that differ by chance alone
    the best is named at most about once in twenty times, however many there are: it has to win
    against each of the others.
    """
    better = MEASURES[measure].best
    if better is None or not estimates:
        return []
    best = better(estimates.values(), key=lambda one: one.value)
    names = [name for name, one in estimates.items() if one.is_same(best)]
    others = [one for name, one in estimates.items() if name not in names]
    sign = 1 if better is min else -1
    return names if others and all(_is_beyond(one, best, sign) for one in others) else []


def _is_beyond(other: Any, best: Any, sign: int) -> bool:
    _, interval = other.less(best)
    return interval is not None and min(sign * end for end in interval) > 0


def best_methods(
    results: Results, settings: Settings, n_bytes: np.ndarray
) -> dict[str, dict[str, list[str]]]:
    """`best` of an `Extrapolation`."""
    names = [method.name for method in settings.methods]
    return {
        measure: {
            str(length): best_of(estimates_at(results, measure, names, length, n_bytes), measure)
            for length in settings.lengths
        }
        for measure in settings.measures
    }


def estimates_at(
    results: Results, measure: str, methods: Sequence[str], length: int, n_bytes: np.ndarray
) -> dict[str, Estimate]:
    """What was found of `methods` at a length; those of which nothing was found are left out."""
    found = {
        name: estimate(results, Condition(measure, name, length), n_bytes)[0] for name in methods
    }
    return {name: one for name, one in found.items() if one is not None}
