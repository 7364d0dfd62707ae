"""From finished cells to the result: means over checkpoints, differences, intervals.

Shapes: C checkpoints, P passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.cells import Cell, Cells, Key
from evaluation.measures.measure import Figures
from evaluation.measures.registry import MEASURES
from evaluation.plan import Condition, Plan, baseline_of
from evaluation.settings import Settings
from evaluation.statistics import bits_per_byte, bootstrap_ci95, exponential, mean_ci95
from methods.method import Method

LOSS_FIELDS = (
    *("nll", "bpb", "ci95"),
    *("difference", "difference_ci95", "perplexity_ratio", "perplexity_ratio_ci95"),
    *("per_checkpoint", "tokens_per_second", "peak_memory_bytes"),
)


class Found(NamedTuple):
    """The cells of all checkpoints under one condition, and why a figure of them cannot be had."""

    cells: list[Cell]
    reason: str | None


class Results:
    """The finished cells of all checkpoints, asked for by condition."""

    def __init__(self, plans: dict[str, Plan], cells: Cells) -> None:
        """`plans`: checkpoint -> its plan; every cell of theirs must be in `cells`."""
        self.plans, self.cells = plans, cells

    def at(self, condition: Condition) -> Found | None:
        """What was found there; None where it was not asked for."""
        found, reasons = [], {}
        for checkpoint, plan in self.plans.items():
            if condition in plan.reasons:
                reasons[checkpoint] = plan.reasons[condition]
            elif condition in plan.sources:
                cell = self.cells[Key(checkpoint, *plan.sources[condition])]
                found.append(cell)
                if cell.reason is not None:
                    reasons[checkpoint] = cell.reason
        return Found(found, self._reason(reasons)) if found or reasons else None

    def _reason(self, reasons: dict[str, str]) -> str | None:
        """One reason for all checkpoints: a figure needs every one of them."""
        if not reasons:
            return None
        first = next(iter(reasons.values()))
        if len(self.plans) == len(reasons) and set(reasons.values()) == {first}:
            return first
        order = list(self.plans)
        return "; ".join(f"checkpoint {order.index(c) + 1}: {why}" for c, why in reasons.items())


class LossFigures(NamedTuple):
    """The fields of these names of an `Extrapolation`."""

    methods: dict[str, dict[str, list]]
    tax: dict[str, dict[str, Any]]
    reasons: dict[str, dict[str, str]]


def loss_figures(
    results: Results, settings: Settings, n_bytes: np.ndarray, fit: list[int]
) -> LossFigures:
    """The figures of the loss.

    `n_bytes`: (P,) of the targets. `fit`: the lengths that the text allows.
    """
    figures = LossFigures({}, {}, {})
    baseline = _baseline(results, settings, fit)
    for method in settings.methods:
        found = {n: results.at(Condition("loss", method.name, n)) for n in settings.lengths}
        columns = {n: _column(at, baseline, n_bytes, settings) for n, at in found.items()}
        figures.methods[method.name] = _by_field(list(columns.values()), len(results.plans))
        trained = columns.get(settings.train_length, {})
        if "difference" in trained:
            figures.tax[method.name] = {
                "nll": trained["difference"],
                "ci95": trained["difference_ci95"],
            }
        if reasons := {str(n): at.reason for n, at in found.items() if at and at.reason}:
            figures.reasons[method.name] = reasons
    return figures


def _baseline(results: Results, settings: Settings, fit: list[int]) -> np.ndarray | None:
    """Nats (P,) of the model as trained at the training length, mean over checkpoints."""
    condition = baseline_of(settings, fit)
    found = None if condition is None else results.at(condition)
    if found is None or found.reason is not None:
        return None
    return mean_nats(found.cells)


def mean_nats(cells: list[Cell]) -> np.ndarray:
    """Nats (P,) of each passage's targets, mean over checkpoints."""
    return _nats(cells).mean(axis=0)


def _nats(cells: list[Cell]) -> np.ndarray:
    """(C, P), summed over the targets of a passage."""
    return np.array([cell.figures["nats"] for cell in cells if cell.figures is not None])


def _column(
    found: Found | None, baseline: np.ndarray | None, n_bytes: np.ndarray, settings: Settings
) -> dict[str, Any]:
    """The loss's figures of a method at a length; empty where there are none.

    Intervals resample the passages of the mean over checkpoints.
    """
    if found is None or found.reason is not None:
        return {}
    nats = _nats(found.cells)
    mean = nats.mean(axis=0)  # (P,)
    figures = {
        "nll": float(mean.mean()) / settings.target_tokens,
        "bpb": bits_per_byte(mean, n_bytes),
        "ci95": bootstrap_ci95(mean, n_bytes),
        "per_checkpoint": (nats.mean(axis=1) / settings.target_tokens).tolist(),
        **_costs(found.cells),
    }
    if baseline is not None:
        figures |= _compared((mean - baseline) / settings.target_tokens)
    return figures


def _costs(cells: list[Cell]) -> dict[str, float | int | None]:
    rates = [cell.tokens_per_second for cell in cells if cell.tokens_per_second is not None]
    peaks = [cell.peak_memory_bytes for cell in cells if cell.peak_memory_bytes is not None]
    return {
        "tokens_per_second": float(np.mean(rates)) if rates else None,
        "peak_memory_bytes": max(peaks, default=None),
    }


def _compared(differences: np.ndarray) -> dict[str, Any]:
    """From the differences (P,) to the baseline, in nats per token."""
    difference, ci95 = mean_ci95(differences)
    ratio, ratio_ci95 = exponential(difference, ci95)
    return {
        "difference": difference,
        "difference_ci95": ci95,
        "perplexity_ratio": ratio,
        "perplexity_ratio_ci95": ratio_ci95,
    }


def _by_field(columns: list[dict[str, Any]], checkpoints: int) -> dict[str, list]:
    """Field -> a value for each length; `per_checkpoint` has such a list for each checkpoint."""
    fields = {field: [column.get(field) for column in columns] for field in LOSS_FIELDS}
    per_length = fields["per_checkpoint"]
    fields["per_checkpoint"] = [
        [None if values is None else values[c] for values in per_length] for c in range(checkpoints)
    ]
    return fields


def measure_figures(
    results: Results, settings: Settings
) -> tuple[dict[str, dict], dict[str, dict[str, dict[str, str]]]]:
    """`measures` and `unmeasured` of an `Extrapolation`: every measure but the loss."""
    measures, unmeasured = {}, {}
    for measure in settings.measures:
        if measure == "loss":
            continue
        by_method = {
            method.name: _of_method(results, settings, measure, method)
            for method in settings.methods
        }
        measures[measure] = {name: figures for name, (figures, _) in by_method.items()}
        reasons = {name: reasons for name, (_, reasons) in by_method.items() if reasons}
        if reasons:
            unmeasured[measure] = reasons
    return measures, unmeasured


def _of_method(
    results: Results, settings: Settings, measure: str, method: Method
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Length as text -> the figures of a measure, and -> why there are none."""
    figures: dict[str, Figures] = {}
    reasons: dict[str, str] = {}
    for length in settings.lengths:
        found = results.at(Condition(measure, method.name, length))
        if found is None:
            continue
        if found.reason is not None:
            reasons[str(length)] = found.reason
        else:
            cells = [cell.figures for cell in found.cells if cell.figures is not None]
            figures[str(length)] = pool(measure, cells)
    return figures, reasons


def pool(measure: str, figures: Sequence[Figures]) -> Figures:
    """The figures of all checkpoints as one, and those of each under "per_checkpoint"."""
    if len(figures) == 1:
        return dict(figures[0])
    return {**MEASURES[measure].pool(figures), "per_checkpoint": list(figures)}
