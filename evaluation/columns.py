"""Different models side by side: the same passages, a column for each model, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from data import Tokenizer
from evaluation.cells import Cells
from evaluation.estimates import Estimate, best_of, estimate
from evaluation.measurement import Measurement, OnProgress, run_missing
from evaluation.measures.registry import MEASURES
from evaluation.plan import Condition
from evaluation.result import Extrapolation
from evaluation.settings import Settings
from evaluation.statistics import PAIRED_INTERVAL
from evaluation.subject import Subject

Row = dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """Every model under every method at every length: `dataclasses.asdict` of it is JSON.

    Attributes:
        models: label -> where it came from ("path"), "train_length", and what sets it apart.
        lengths: the contexts measured, ascending, in tokens.
        protocol: what was scored and how, and a line on each method and measure.
        measures: measure -> rows, method by method, each by length: {"method", "length",
            "values": label -> figure, "ci95": label -> its interval,
            "differences": label -> {"value", "ci95"}: that model less the first one, on the same
            passages or trials (none for the first, nor where either is missing),
            "lead": {"best", "next", "value", "ci95"}: by how much the best model is ahead of the
            next, None where nothing is to be ahead of,
            "best": the models that are better than every other beyond the interval}.
        reasons: measure -> label -> method -> length as text -> why it was not measured.
    """

    models: dict[str, dict[str, Any]]
    lengths: list[int]
    protocol: dict[str, Any]
    measures: dict[str, list[Row]]
    reasons: dict[str, dict[str, dict[str, dict[str, str]]]]


@dataclass(frozen=True)
class Column:
    """A model that is to be measured by itself, under `label`.

    `settings` are those of the others but for the training length.
    """

    label: str
    subject: Subject
    settings: Settings
    cells: Cells


def measure_columns(
    columns: Sequence[Column],
    documents: Sequence[np.ndarray],
    token_bytes: np.ndarray,
    *,
    tokenizer: Tokenizer | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Columns, dict[str, Extrapolation]]:
    """Measure each model on the same passages, one after the other: all of them, and each alone.

    Arguments and errors: as of `evaluation.measure_extrapolation`; progress is that of all models.
    """
    measured = {
        c.label: Measurement([c.subject], documents, token_bytes, c.settings, tokenizer, c.cells)
        for c in columns
    }
    run_missing(list(measured.values()), on_progress)
    results = {label: measurement.result() for label, measurement in measured.items()}
    return _side_by_side(measured, results), results


def _side_by_side(
    measured: Mapping[str, Measurement], results: Mapping[str, Extrapolation]
) -> Columns:
    first = next(iter(results.values()))
    settings = next(iter(measured.values())).settings
    rows: dict[str, list[Row]] = {}
    reasons: dict[str, Any] = {}
    for measure in settings.measures:
        found = [
            (Condition(measure, method.name, length), reasons.setdefault(measure, {}))
            for method, length in product(settings.methods, settings.lengths)
        ]
        rows[measure] = [row for at, why in found if (row := _row(measured, at, why)) is not None]
    models = {label: _about(result) for label, result in results.items()}
    protocol = {key: value for key, value in first.protocol.items() if key != "model"}
    protocol["difference"] = f"of the loss paired over passages: {PAIRED_INTERVAL}"
    return Columns(models, settings.lengths, protocol, rows, reasons)


def _about(result: Extrapolation) -> dict[str, Any]:
    path = next(iter(result.checkpoints), None)
    return {"path": path, "train_length": result.train_length, **result.protocol["model"]}


def _row(measured: Mapping[str, Measurement], at: Condition, reasons: dict[str, Any]) -> Row | None:
    """All models under one condition; None where none was asked for. `reasons` are added to."""
    estimates: dict[str, Estimate] = {}
    asked = False
    for label, measurement in measured.items():
        found, why = estimate(measurement.results, at, measurement.n_bytes)
        asked = asked or found is not None or why is not None
        if found is not None:
            estimates[label] = found
        elif why is not None:
            reasons.setdefault(label, {}).setdefault(at.method, {})[str(at.length)] = why
    if not asked:
        return None
    return {
        "method": at.method,
        "length": at.length,
        "values": {label: one.value for label, one in estimates.items()},
        "ci95": {label: one.ci95 for label, one in estimates.items()},
        "differences": _differences(estimates, next(iter(measured))),
        "lead": _lead(estimates, at.measure),
        "best": best_of(estimates, at.measure),
    }


def _differences(estimates: Mapping[str, Any], first: str) -> dict[str, Any]:
    if first not in estimates:
        return {}
    return {
        label: _difference(one, estimates[first])
        for label, one in estimates.items()
        if label != first
    }


def _difference(one: Any, other: Any) -> dict[str, Any]:
    value, ci95 = one.less(other)
    return {"value": value, "ci95": ci95}


def _lead(estimates: Mapping[str, Any], measure: str) -> dict[str, Any] | None:
    better = MEASURES[measure].best
    if better is None or len(estimates) < 2:
        return None
    order = sorted(estimates, key=lambda label: estimates[label].value, reverse=better is max)
    best, following = (estimates[label] for label in order[:2])
    ahead = (following, best) if better is min else (best, following)
    return {"best": order[0], "next": order[1], **_difference(*ahead)}
