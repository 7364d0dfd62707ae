"""Running the cells of one model: under each method in turn, timed, kept as they are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.cells import OUT_OF_MEMORY, Cell, Cells, Key
from evaluation.measures.measure import ON_A_GPU, TOKENS_PER_BATCH, Material, Task
from evaluation.measures.registry import MEASURES
from evaluation.plan import Condition, Plan
from methods.apply import applied


def run_cells(
    model: nn.Module,
    checkpoint: str,
    plan: Plan,
    todo: list[Condition],
    material: Material,
    cells: Cells,
    on_progress: Callable[[int], None],
) -> None:
    """Measure the cells `todo` of a model and add them to `cells` as they are finished.

    Mode, scaling and all else of the model are afterwards as before. `on_progress` gets the
    (estimated) tokens as they are read.
    """
    cuda = next(model.parameters()).device.type == "cuda"
    size = material.max_tokens_per_batch or (ON_A_GPU if cuda else TOKENS_PER_BATCH)
    with _evaluating(model), _beginning(model, material.beginning):
        for condition in todo:
            meter = _Meter(cost(condition, material), on_progress)
            method = plan.methods[condition.method]
            task = Task(material, method, condition.length, meter.count, size)
            lengths = {"context": condition.length, "train_length": material.train_length}
            with applied(method, model, **lengths) as ready:
                cell = _measured(ready, condition.measure, task, meter)
            cells.add(Key(checkpoint, *condition), cell)
            meter.finish()


def cost(condition: Condition, material: Material) -> int:
    """About how many tokens a cell reads: nearer to its time than a count of forwards."""
    return MEASURES[condition.measure].tokens(material, condition.length)


class _Meter:
    """Reports the tokens of a cell as they are read, and keeps the time of each forward.

    It never reports more tokens than were announced, and at the end it reports the rest.
    """

    def __init__(self, tokens: int, on_progress: Callable[[int], None]) -> None:
        self.left, self.on_progress = tokens, on_progress
        self.start = time.perf_counter()
        self.forwards: list[tuple[int, float]] = []

    def count(self, tokens: int) -> None:
        """A forward has read so many tokens."""
        self.forwards.append((tokens, time.perf_counter()))
        self._report(min(tokens, self.left))

    def finish(self) -> None:
        """The cell is done: it may have been given up half-way, or read less than announced."""
        self._report(self.left)

    def _report(self, tokens: int) -> None:
        self.left -= tokens
        if tokens:
            self.on_progress(tokens)

    def seconds(self) -> float:
        """Since the cell began."""
        return time.perf_counter() - self.start

    def tokens_per_second(self) -> float | None:
        """Of the forwards after the first, which may compile kernels, where there are any."""
        if not self.forwards:
            return None
        start, counted = self.start, self.forwards
        if len(self.forwards) > 1:
            start, counted = self.forwards[0][1], self.forwards[1:]
        seconds = counted[-1][1] - start
        return sum(tokens for tokens, _ in counted) / seconds if seconds > 0 else None


def _measured(model: nn.Module, measure: str, task: Task, meter: _Meter) -> Cell:
    device = next(model.parameters()).device
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    figures, reason = _figures_or_reason(model, measure, task)
    if reason is not None and cuda:  # the exception is gone, and the tensors that it held
        torch.cuda.empty_cache()
    return Cell(
        figures=figures,
        reason=reason,
        seconds=meter.seconds(),
        tokens_per_second=None if reason else meter.tokens_per_second(),
        peak_memory_bytes=torch.cuda.max_memory_allocated(device) if cuda else None,
    )


def _figures_or_reason(
    model: nn.Module, measure: str, task: Task
) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return MEASURES[measure].run(model, task), None
    except torch.cuda.OutOfMemoryError:
        return None, OUT_OF_MEMORY
    except ValueError as error:  # a context too short for the measure, a position never learned
        return None, str(error)


@contextmanager
def _beginning(model: nn.Module, tokens: Sequence[int]) -> Iterator[None]:
    """Meanwhile `tokens` stand in the place of the first ones of whatever the model is called with.

    So do they in a part of it that `methods.crop` calls it with.
    """
    if not tokens:
        yield
        return

    def begin(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows = inputs[0].clone()  # (B, S)
        first = rows[:, : len(tokens)]
        first[:] = rows.new_tensor(tokens)[: first.shape[1]]
        return (rows, *inputs[1:])

    hook = model.register_forward_pre_hook(begin)
    try:
        yield
    finally:
        hook.remove()


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
