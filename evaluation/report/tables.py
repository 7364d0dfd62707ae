"""The result as tables, methods × lengths: one of the loss, one of each other measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluation.extrapolation import Extrapolation
from evaluation.measures.registry import MEASURES

BPB_TITLE = "Bits per byte of the same text, with growing context"


@dataclass(frozen=True)
class Grid:
    """One figure of all methods and lengths.

    Attributes:
        measure: a name in `MEASURES`.
        figure: which of its figures this is.
        lengths: the columns.
        values, ci95: method -> a value, and an interval, for each length; None where not run.
        reasons: method -> length as text -> why not.
        best: min, max, or None where neither is better.
        form: how a value is written.
    """

    measure: str
    figure: str
    title: str
    lengths: list[int]
    values: dict[str, list[float | None]]
    ci95: dict[str, list[list[float] | None]]
    reasons: dict[str, dict[str, str]]
    best: Callable[..., float] | None
    form: str

    def written(self, value: float) -> str:
        """A value in the grid's form; what is rounded to zero has no sign."""
        text = self.form.format(value)
        return text.removeprefix("-") if not any(c in "123456789" for c in text) else text

    def winners(self, column: int) -> set[str]:
        """The best methods of a length, as written; none where nothing sets them apart."""
        measured = {name: values[column] for name, values in self.values.items()}
        measured = {name: value for name, value in measured.items() if value is not None}
        written = {name: self.written(value) for name, value in measured.items()}
        if self.best is None or len(set(written.values())) < 2:
            return set()
        best = self.written(self.best(measured.values()))
        return {name for name, text in written.items() if text == best}


def grids(result: Extrapolation) -> list[Grid]:
    """A grid for each measure: bits per byte for the loss, the headline figure for the others."""
    found = []
    if "loss" in result.protocol.get("measures", ("loss",)):
        found.append(loss_grid(result, "bpb", "ci95", BPB_TITLE))
    return found + [_measure_grid(result, measure) for measure in result.measures]


def loss_grid(
    result: Extrapolation, figure: str, ci95: str | None, title: str, form: str = "{:.3f}"
) -> Grid:
    """One of the loss's figures, at every length."""
    none = [None] * len(result.lengths)
    return Grid(
        "loss",
        figure,
        title,
        result.lengths,
        {name: values.get(figure, none) for name, values in result.methods.items()},
        {name: values.get(ci95, none) for name, values in result.methods.items()},
        result.reasons,
        min,
        form,
    )


def _measure_grid(result: Extrapolation, measure: str) -> Grid:
    """At the lengths where it was measured, or was to be."""
    kind = MEASURES[measure]
    by_method = result.measures[measure]
    reasons = result.unmeasured.get(measure, {})
    there = {int(n) for methods in (by_method, reasons) for at in methods.values() for n in at}
    lengths = [n for n in result.lengths if n in there]
    values, ci95 = {}, {}
    for name, by_length in by_method.items():
        figures = [by_length.get(str(n)) for n in lengths]
        values[name] = [None if f is None else kind.headline(f) for f in figures]
        ci95[name] = [None if f is None else _interval(f) for f in figures]
    return Grid(
        measure, kind.figure, _title(measure), lengths, values, ci95, reasons, kind.best, kind.form
    )


def _interval(figures: dict[str, Any]) -> list[float] | None:
    """That of the headline; the positions have one for each part of a pass instead."""
    found = figures.get("ci95")
    return found if found and isinstance(found[0], float) else None


def _title(measure: str) -> str:
    return f"{measure}: {MEASURES[measure].line}"


def tables(result: Extrapolation) -> Iterator[RenderableType]:
    """What is printed in a terminal, in order: each a title, a table and what there is to note."""
    for grid in grids(result):
        lines = list(_captions(result)) if grid.measure == "loss" else []
        lines += reason_lines(grid)
        lines += _fewer(result) if grid.measure == "loss" else []
        # Not the table's own title and caption, which would be wrapped to its width.
        title, drawn = Text(grid.title, style="italic"), _draw(grid, result.train_length)
        yield Group(title, drawn, *(Text(line, style="dim") for line in lines))


def table(result: Extrapolation) -> RenderableType:
    """The first of `tables`."""
    return next(tables(result))


def _draw(grid: Grid, train_length: int) -> Table:
    """Methods × lengths; the best method of each length is bold with a star."""
    drawn = Table()
    drawn.add_column("method", no_wrap=True, min_width=max(map(len, grid.values), default=0))
    for length in grid.lengths:
        drawn.add_column(f"{length} ({times(length, train_length)}x)", justify="right")
    winners = [grid.winners(i) for i in range(len(grid.lengths))]
    for name, values in grid.values.items():
        cells = [_mark(grid, value, name in winners[i]) for i, value in enumerate(values)]
        drawn.add_row(Text(name), *cells)
    return drawn


def _mark(grid: Grid, value: float | None, is_best: bool) -> Text:
    if value is None:
        return Text("-", style="dim")
    text = grid.written(value)
    return Text(f"*{text}", style="bold green") if is_best else Text(text)


def _captions(result: Extrapolation) -> Iterator[str]:
    yield "* best of its length; lower is better"
    several = f"; mean of {len(result.checkpoints)} checkpoints"
    yield f"{scored(result)}; trained at {result.train_length}" + several * (
        len(result.checkpoints) > 1
    )


def reason_lines(grid: Grid) -> list[str]:
    """`- at LENGTHS (METHODS): why`, those that share a reason on one line."""
    lines = []
    unrun: dict[str, dict[str, list[str]]] = {}  # why -> length -> methods
    for name, reasons in grid.reasons.items():
        for length, why in reasons.items():
            unrun.setdefault(why, {}).setdefault(length, []).append(name)
    for why, by_length in unrun.items():
        for names in dict.fromkeys(map(tuple, by_length.values())):
            lengths = ", ".join(n for n, here in by_length.items() if tuple(here) == names)
            whose = "" if len(names) == len(grid.values) else f" ({', '.join(names)})"
            lines.append(f"- at {lengths}{whose}: {why}")
    return lines


def _fewer(result: Extrapolation) -> list[str]:
    p = result.protocol
    if p["passages"] < p["passages_asked"] and p["passages"]:
        return [f"({p['passages_asked']} passages asked; the text holds {p['passages']})"]
    return []


def legend(result: Extrapolation) -> RenderableType:
    """A line on what each method does."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for name, line in result.protocol["methods"].items():
        lines.add_row(Text(name), Text(line))
    return lines


def scored(result: Extrapolation) -> str:
    """How much text the loss is that of."""
    p = result.protocol
    return f"{p['target_tokens']} tokens in each of {p['passages']} passages"


def times(length: int, train_length: int) -> str:
    """A length in training lengths."""
    return f"{length / train_length:.3g}"
