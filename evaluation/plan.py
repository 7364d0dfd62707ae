"""Which cells a model has, which of them stand for others, and which cannot be run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from evaluation.measures.registry import MEASURES
from evaluation.settings import Settings
from methods.method import Method


class Condition(NamedTuple):
    """What a cell of one model measures."""

    measure: str
    method: str
    length: int


@dataclass(frozen=True)
class Plan:
    """The cells of a model.

    Attributes:
        sources: for each condition the one that is measured for it, mostly itself.
        reasons: why a condition cannot be run; one that is in neither is not asked for.
        methods: by name.
    """

    sources: dict[Condition, Condition]
    reasons: dict[Condition, str]
    methods: dict[str, Method]

    def todo(self) -> list[Condition]:
        """What to measure, short before long: much is known early, what does not fit comes last."""
        measures, methods = list(MEASURES), list(self.methods)
        return sorted(
            set(self.sources.values()),
            key=lambda at: (at.length, measures.index(at.measure), methods.index(at.method)),
        )


def plan_cells(config: Any, settings: Settings, too_long: dict[int, str]) -> Plan:
    """The cells of a model of `config`, less the lengths that are `too_long` for the text."""
    plan = Plan({}, {}, {method.name: method for method in (Method(), *settings.methods)})
    fit = [n for n in settings.lengths if n not in too_long]
    for measure in settings.measures:
        wanted = MEASURES[measure].lengths(fit, settings.train_length)
        for method, length in product(settings.methods, settings.lengths):
            condition = Condition(measure, method.name, length)
            reason = too_long.get(length) or _refusal(config, settings, measure, method, length)
            if reason is None and length in wanted:
                plan.sources[condition] = _source(config, settings, condition, method)
            elif reason is not None and (length in wanted or length in too_long):
                plan.reasons[condition] = reason
    if (baseline := baseline_of(settings, fit)) is not None:
        plan.sources[baseline] = baseline
    return plan


def baseline_of(settings: Settings, fit: list[int]) -> Condition | None:
    """The loss of the model as trained at the training length, to which others are compared.

    None where the passages are shorter than that, or the targets longer. `fit`: the lengths that
    the text allows.
    """
    length = settings.train_length
    if "loss" not in settings.measures or not fit:
        return None
    inside = settings.target_tokens <= length <= fit[-1]
    return Condition("loss", Method().name, length) if inside else None


def _refusal(
    config: Any, settings: Settings, measure: str, method: Method, length: int
) -> str | None:
    """Why a method cannot be measured at a length, or None where it can."""
    if (reason := method.refusal(config, settings.train_length)) is not None:
        return reason
    if not method.crop or length <= settings.train_length:
        return None
    if not MEASURES[measure].cropped:
        return "crop reads no pass of that length"
    if settings.target_tokens > settings.train_length:
        return "crop reads no more than the training length, and the targets are longer"
    return None


def _source(config: Any, settings: Settings, condition: Condition, method: Method) -> Condition:
    """The condition to measure for this one.

    Where a method leaves the model as it was trained, that is the cell of `none`. The loss under
    crop is that of `none` at the training length: the windows of all lengths end at one place.
    """
    lengths = {"context": condition.length, "train_length": settings.train_length}
    if method.leaves_as_trained(config, **lengths):
        return condition._replace(method=Method().name)
    if method.crop and condition.measure == "loss":
        return condition._replace(method=Method().name, length=settings.train_length)
    return condition
