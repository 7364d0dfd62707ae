"""What an evaluation has found, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Extrapolation:
    """Every figure of every method at every length: `dataclasses.asdict` of it is JSON.

    Lists go along `lengths`, with None where a length was not run. Intervals are [low, high], and
    None also where there was one passage only.

    Attributes:
        train_length: the inputs of a training window.
        lengths: the contexts measured, ascending.
        protocol: what was scored and how, and a line on each method and measure.
        checkpoints: where the models came from; with several, figures are means over them.
        methods: name -> {"nll": nats per token, "bpb": bits per byte, "ci95" of it,
            "difference": nats per token less those of the model as trained at the training
            length, on the same passages, "difference_ci95", "perplexity_ratio": exp of it,
            "perplexity_ratio_ci95", "per_checkpoint": a list of nll for each checkpoint,
            "tokens_per_second", "peak_memory_bytes" (the largest of any checkpoint)}.
        tax: name -> {"nll", "ci95"}: the difference at the training length.
        measures: measure -> name -> length as text -> the figures of that measure, with those
            of each checkpoint under "per_checkpoint" where there are several.
        best: measure -> length as text -> the names that are better than every other there, beyond
            the 95 % interval of the difference (`evaluation.estimates.best_of`); [] where chance
            may have made the best.
        setting: of a model from elsewhere (`evaluation.setting`): {"length": at which it was found,
            "best": the method that is best there, beyond the interval better than none, "method":
            the best one of those that transformers has, "rope_parameters": for its config.json};
            None for each that there is not.
        reasons: name -> {length as text: why its loss was not measured}.
        unmeasured: measure -> name -> {length as text: why it was not measured}.
    """

    train_length: int
    lengths: list[int]
    protocol: dict[str, Any]
    methods: dict[str, dict[str, list]]
    reasons: dict[str, dict[str, str]]
    checkpoints: list[str] = field(default_factory=list)
    tax: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, dict[str, dict[str, dict[str, Any]]]] = field(default_factory=dict)
    unmeasured: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    best: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    setting: dict[str, Any] | None = None
