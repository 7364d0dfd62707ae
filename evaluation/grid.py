"""Which cells there are, which of them stand for which, and running those of one model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import nn

from evaluation.cells import OUT_OF_MEMORY, Cell, Cells, Key
from evaluation.measures.registry import MEASURES, Material, Task
from evaluation.settings import Settings
from methods.apply import applied
from methods.method import Method


class Place(NamedTuple):
    """A cell of one model."""

    measure: str
    method: str
    length: int


@dataclass(frozen=True)
class Plan:
    """The cells of a model.

    Attributes:
        sources: for each cell the one to measure for it, mostly itself.
        reasons: why a cell cannot be run; a cell that is in neither is not asked for.
        methods: by name.
    """

    sources: dict[Place, Place]
    reasons: dict[Place, str]
    methods: dict[str, Method]

    def todo(self) -> list[Place]:
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
            place = Place(measure, method.name, length)
            reason = too_long.get(length) or _refusal(config, settings, measure, method, length)
            if reason is None and length in wanted:
                plan.sources[place] = _source(config, settings, place, method)
            elif reason is not None and (length in wanted or length in too_long):
                plan.reasons[place] = reason
    if (baseline := baseline_of(settings, fit)) is not None:
        plan.sources[baseline] = baseline
    return plan


def baseline_of(settings: Settings, fit: list[int]) -> Place | None:
    """The loss of the model as trained at the training length, to which others are compared.

    None where it is not to be had: for passages that are shorter, or targets that are longer.
    """
    length = settings.train_length
    if "loss" not in settings.measures or not fit:
        return None
    inside = settings.target_tokens <= length <= fit[-1]
    return Place("loss", Method().name, length) if inside else None


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


def _source(config: Any, settings: Settings, place: Place, method: Method) -> Place:
    """Where a method leaves the model as it is, the cell of `none` stands for it."""
    lengths = {"context": place.length, "train_length": settings.train_length}
    if method.leaves_as_trained(config, **lengths):
        return place._replace(method=Method().name)
    if method.crop and place.measure == "loss":  # the windows of all lengths end at one place
        return place._replace(method=Method().name, length=settings.train_length)
    return place


def run_cells(
    model: nn.Module,
    checkpoint: str,
    plan: Plan,
    todo: list[Place],
    material: Material,
    cells: Cells,
    on_progress: Callable[[int], None],
) -> None:
    """Measure the cells `todo` of a model and add them to `cells` as they are finished.

    Mode, scaling and all else of the model are afterwards as before. `on_progress` gets the
    (estimated) tokens as they are read.
    """
    with _evaluating(model):
        for place in todo:
            budget = cost(place, material)
            advance = _Budget(budget, on_progress)
            method = plan.methods[place.method]
            lengths = {"context": place.length, "train_length": material.train_length}
            with applied(method, model, **lengths) as ready:
                task = Task(material, method, place.length, advance)
                cell = _measure_cell(ready, place.measure, task)
            cells.add(Key(checkpoint, *place), cell)
            advance.finish()


def cost(place: Place, material: Material) -> int:
    """About how many tokens a cell reads: nearer to its time than a count of forwards."""
    return MEASURES[place.measure].tokens(material, place.length)


class _Budget:
    """Passes a cell's tokens on as they are read, never more than were announced, and the rest
    at its end; keeps the time of each forward."""

    def __init__(self, tokens: int, on_progress: Callable[[int], None]) -> None:
        self.left, self.on_progress = tokens, on_progress
        self.start = time.perf_counter()
        self.forwards: list[tuple[int, float]] = []

    def __call__(self, tokens: int) -> None:
        self.forwards.append((tokens, time.perf_counter()))
        self._pass_on(min(tokens, self.left))

    def finish(self) -> None:
        self._pass_on(self.left)  # it was given up half-way, or read less than announced

    def _pass_on(self, tokens: int) -> None:
        self.left -= tokens
        if tokens:
            self.on_progress(tokens)

    def tokens_per_second(self) -> float | None:
        """Of the forwards after the first, which may compile kernels, where there are any."""
        if not self.forwards:
            return None
        start, counted = self.start, self.forwards
        if len(self.forwards) > 1:
            start, counted = self.forwards[0][1], self.forwards[1:]
        seconds = counted[-1][1] - start
        return sum(tokens for tokens, _ in counted) / seconds if seconds > 0 else None


def _measure_cell(model: nn.Module, measure: str, task: Task) -> Cell:
    device = next(model.parameters()).device
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    figures = reason = None
    try:
        figures = MEASURES[measure].run(model, task)
    except torch.cuda.OutOfMemoryError:
        reason = OUT_OF_MEMORY
    except ValueError as error:  # position=learned, past the last position that it has learned
        reason = str(error)
    if reason is not None and cuda:  # outside the except clause, whose exception keeps tensors
        torch.cuda.empty_cache()
    budget = task.on_forward
    assert isinstance(budget, _Budget)
    return Cell(
        figures=figures,
        reason=reason,
        seconds=time.perf_counter() - budget.start,
        tokens_per_second=None if reason else budget.tokens_per_second(),
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, uncompiled; every submodule's own mode is back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    compiled = any(module._compiled_call_impl is not None for module, _ in modes)
    try:
        model.eval()
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for module, training in modes:
            module.training = training
