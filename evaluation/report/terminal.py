"""The result in a terminal: a table of each measure, methods × lengths, and a legend."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluation.report.comparison import (
    Comparison,
    comparisons,
    notes,
    scored,
    several_words,
    times,
    token_comparison,
    token_words,
)
from evaluation.report.words import better_words
from evaluation.result import Extrapolation


def tables(result: Extrapolation) -> Iterator[RenderableType]:
    """What is printed, in order: each a title, a table and what there is to note."""
    for comparison in comparisons(result):
        lines = [*notes(comparison, result), *_about(comparison, result)]
        lines += comparison.reason_lines()
        lines += _fewer(result) if comparison.measure == "loss" else []
        # Not the table's own title and caption, which would be wrapped to its width.
        title, drawn = Text(comparison.title, style="italic"), _draw(comparison, result)
        yield Group(title, drawn, *(Text(line, style="dim") for line in lines))
        if comparison.measure == "loss" and (by_token := token_comparison(result)):
            line = Text(token_words(result), style="dim")
            yield Group(Text(by_token.title, style="italic"), _draw(by_token, result), line)


def table(result: Extrapolation) -> RenderableType:
    """The first of `tables`."""
    return next(tables(result))


def legend(result: Extrapolation) -> RenderableType:
    """A line on what each method does."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(no_wrap=True)
    lines.add_column()
    for name, line in result.protocol["methods"].items():
        lines.add_row(Text(name), Text(line))
    return lines


def _draw(comparison: Comparison, result: Extrapolation) -> Table:
    """Methods × lengths; a method that is better than every other is bold with a star."""
    drawn = Table()
    width = max(map(len, comparison.values), default=0)
    drawn.add_column("method", no_wrap=True, min_width=width)
    for length in comparison.lengths:
        drawn.add_column(f"{length} ({times(length, result.train_length)}x)", justify="right")
    winners = [comparison.winners(i) for i in range(len(comparison.lengths))]
    for name, values in comparison.values.items():
        row = [_mark(comparison, value, name in winners[i]) for i, value in enumerate(values)]
        drawn.add_row(Text(name), *row)
    return drawn


def _mark(comparison: Comparison, value: float | None, is_best: bool) -> Text:
    if value is None:
        return Text("-", style="dim")
    text = comparison.written(value)
    return Text(f"*{text}", style="bold green") if is_best else Text(text)


def _about(comparison: Comparison, result: Extrapolation) -> list[str]:
    """What the figures are of, and which are the better ones."""
    parts = [better_words(comparison.measure)]
    if comparison.measure == "loss":
        parts += [scored(result), f"trained at {result.train_length} tokens"]
    line = "; ".join(part for part in parts if part)
    several = several_words(result) if comparison.measure == "loss" else None
    return [text for text in (line, several) if text]


def _fewer(result: Extrapolation) -> list[str]:
    p = result.protocol
    if p["passages"] < p["passages_asked"] and p["passages"]:
        return [f"({p['passages_asked']} passages asked; the text holds {p['passages']})"]
    return []
