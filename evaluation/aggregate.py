"""From finished cells to the result: means over checkpoints, differences, intervals.

Shapes: C checkpoints, P passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.cells import Cell, Cells, Key
from evaluation.grid import Place, Plan, baseline_of
from evaluation.measures.registry import Figures
from evaluation.settings import Settings
from evaluation.statistics import (
    bits_per_byte,
    bootstrap_ci95,
    exponential,
    mean_ci95,
    wilson_ci95,
)

LOSS_FIELDS = (
    *("nll", "bpb", "ci95"),
    *("difference", "difference_ci95", "perplexity_ratio", "perplexity_ratio_ci95"),
    *("per_checkpoint", "tokens_per_second", "peak_memory_bytes"),
)


class Results:
    """The finished cells of all checkpoints, asked for by place."""

    def __init__(self, plans: dict[str, Plan], cells: Cells) -> None:
        """`plans`: checkpoint -> its plan; every cell of theirs must be in `cells`."""
        self.plans, self.cells = plans, cells

    def at(self, place: Place) -> tuple[list[Cell], str | None] | None:
        """The cells of all checkpoints, or why there are none; None where it was not asked for."""
        found, reasons = [], {}
        for checkpoint, plan in self.plans.items():
            if place in plan.reasons:
                reasons[checkpoint] = plan.reasons[place]
            elif place in plan.sources:
                cell = self.cells[Key(checkpoint, *plan.sources[place])]
                found.append(cell)
                if cell.reason is not None:
                    reasons[checkpoint] = cell.reason
        if not found and not reasons:
            return None
        return found, self._told(reasons)

    def _told(self, reasons: dict[str, str]) -> str | None:
        """One reason for all checkpoints: a figure needs every one of them."""
        if not reasons:
            return None
        first = next(iter(reasons.values()))
        if len(self.plans) == len(reasons) and set(reasons.values()) == {first}:
            return first
        order = list(self.plans)
        return "; ".join(f"checkpoint {order.index(c) + 1}: {why}" for c, why in reasons.items())


def loss_figures(
    results: Results, settings: Settings, n_bytes: np.ndarray, fit: list[int]
) -> tuple[dict[str, dict[str, list]], dict[str, dict[str, Any]], dict[str, dict[str, str]]]:
    """`methods`, `tax` and `reasons` of an `Extrapolation`; `n_bytes` (P,) of the targets."""
    methods, tax, reasons = {}, {}, {}
    baseline = _baseline(results, settings, fit)
    for method in settings.methods:
        columns, told = [], {}
        for length in settings.lengths:
            found = results.at(Place("loss", method.name, length))
            nats = None
            if found is not None and found[1] is None:
                nats = _nats(found[0])
                columns.append(_loss_of(nats, baseline, n_bytes, settings, found[0]))
            else:
                columns.append({})
            if found is not None and found[1] is not None:
                told[str(length)] = found[1]
            if nats is not None and baseline is not None and length == settings.train_length:
                figures = columns[-1]
                tax[method.name] = {
                    "nll": figures["difference"],
                    "ci95": figures["difference_ci95"],
                }
        fields = {field: [column.get(field) for column in columns] for field in LOSS_FIELDS}
        per_length = fields["per_checkpoint"]
        fields["per_checkpoint"] = [
            [None if values is None else values[c] for values in per_length]
            for c in range(len(results.plans))
        ]
        methods[method.name] = fields
        if told:
            reasons[method.name] = told
    return methods, tax, reasons


def _baseline(results: Results, settings: Settings, fit: list[int]) -> np.ndarray | None:
    """Nats (P,) of the model as trained at the training length, mean over checkpoints."""
    place = baseline_of(settings, fit)
    found = None if place is None else results.at(place)
    if found is None or found[1] is not None:
        return None
    return _nats(found[0]).mean(axis=0)


def _nats(cells: list[Cell]) -> np.ndarray:
    """(C, P), summed over the targets of a passage."""
    return np.array([cell.figures["nats"] for cell in cells if cell.figures is not None])


def _loss_of(
    nats: np.ndarray,
    baseline: np.ndarray | None,
    n_bytes: np.ndarray,
    settings: Settings,
    cells: list[Cell],
) -> dict[str, Any]:
    """One column of a method: passages are resampled, of the mean over checkpoints."""
    mean = nats.mean(axis=0)  # (P,)
    rates = [cell.tokens_per_second for cell in cells if cell.tokens_per_second is not None]
    peaks = [cell.peak_memory_bytes for cell in cells if cell.peak_memory_bytes is not None]
    figures = {
        "nll": float(mean.mean()) / settings.target_tokens,
        "bpb": bits_per_byte(mean, n_bytes),
        "ci95": bootstrap_ci95(mean, n_bytes),
        "per_checkpoint": (nats.mean(axis=1) / settings.target_tokens).tolist(),
        "tokens_per_second": float(np.mean(rates)) if rates else None,
        "peak_memory_bytes": max(peaks, default=None),
    }
    if baseline is not None:
        difference = mean_ci95((mean - baseline) / settings.target_tokens)
        ratio = exponential(*difference)
        figures |= {"difference": difference[0], "difference_ci95": difference[1]}
        figures |= {"perplexity_ratio": ratio[0], "perplexity_ratio_ci95": ratio[1]}
    return figures


def measure_figures(
    results: Results, settings: Settings
) -> tuple[dict[str, dict], dict[str, dict[str, dict[str, str]]]]:
    """`measures` and `unmeasured` of an `Extrapolation`: every measure but the loss."""
    measures, unmeasured = {}, {}
    for measure in settings.measures:
        if measure == "loss":
            continue
        figures = {method.name: {} for method in settings.methods}
        reasons = {method.name: {} for method in settings.methods}
        for method in settings.methods:
            for length in settings.lengths:
                found = results.at(Place(measure, method.name, length))
                if found is None:
                    continue
                if found[1] is not None:
                    reasons[method.name][str(length)] = found[1]
                else:
                    pooled = pool(measure, [cell.figures for cell in found[0]])
                    figures[method.name][str(length)] = pooled
        measures[measure] = figures
        unmeasured[measure] = {name: told for name, told in reasons.items() if told}
    return measures, {measure: told for measure, told in unmeasured.items() if told}


def pool(measure: str, figures: Sequence[Figures]) -> Figures:
    """The figures of all checkpoints as one.

    Means; but passkey trials are counted together, and of differences the largest is kept. The
    mean of intervals' ends is no narrower than the interval of the mean: trials are the same for
    all checkpoints, and at worst these agree entirely.
    """
    if len(figures) == 1:
        return dict(figures[0])
    pooled = _mean(list(figures))
    if measure in ("passkey", "distractors"):
        correct = [sum(counts) for counts in zip(*(f["correct"] for f in figures), strict=True)]
        trials = [sum(counts) for counts in zip(*(f["trials"] for f in figures), strict=True)]
        accuracy = sum(correct) / sum(trials)
        pooled |= {"correct": correct, "trials": trials, "accuracy": accuracy}
        pooled["ci95"] = wilson_ci95(sum(correct), sum(trials))
    elif "trials" in pooled:
        pooled["trials"] = figures[0]["trials"]  # the same for each
    if measure == "decode":
        differences = [f["difference"] for f in figures]
        pooled["difference"] = None if None in differences else max(differences)
        pooled["possible"] = all(f["possible"] for f in figures)
        pooled["why"] = next((f["why"] for f in figures if f["why"]), None)
    return {**pooled, "per_checkpoint": list(figures)}


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
