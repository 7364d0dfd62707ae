"""A comparison in a terminal: the verdict, then the table, as much of it as there is room for."""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from reports.comparison import Comparison, Table

WIDTH = 120  # where the output goes to no terminal


def show(comparison: Comparison) -> None:
    """Print the table, how to read it, and the verdict."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(WIDTH, console.width)
    table, dropped = narrowed(comparison.table, console.width)
    console.print()
    console.print(Text(comparison.title, style="italic"))
    console.print(_draw(table))
    lines = [f"no room for: {', '.join(dropped)}; comparison.md has them"] if dropped else []
    for line in (*comparison.notes, *lines):
        console.print(Text(line, style="dim"))
    console.print()
    for line in comparison.verdict:
        print(line)  # without rich, which would cut the commands in it


def narrowed(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table without the columns that do not fit into `width`, and their heads.

    The least important goes first, and of those alike the last one.
    """
    kept = list(range(len(table.heads)))
    dropped: list[int] = []
    while _width(table, kept) > width:
        least = [i for i in kept if table.importance[i] > 0]
        if not least:
            break
        gone = min(reversed(least), key=table.importance.__getitem__)
        kept.remove(gone)
        dropped.append(gone)
    return (
        Table(
            heads=[table.heads[i] for i in kept],
            rows=[[row[i] for i in kept] for row in table.rows],
            importance=[table.importance[i] for i in kept],
        ),
        [table.heads[i] for i in sorted(dropped)],
    )


def _width(table: Table, columns: list[int]) -> int:
    """Characters of a row: each column, a space to both sides, and the lines between."""
    cells = [[table.heads[i], *(row[i] for row in table.rows)] for i in columns]
    return sum(max(map(cell_len, column)) + 3 for column in cells) + 1


def _draw(table: Table) -> Drawn:
    drawn = Drawn()
    for i, head in enumerate(table.heads):
        left = i == 0 or any(not _is_figure(row[i]) for row in table.rows)
        drawn.add_column(Text(head), justify="left" if left else "right", overflow="fold")
    for row in table.rows:
        best = any(cell.startswith("*") for cell in row)
        drawn.add_row(*(Text(cell, style="bold green" if best else "") for cell in row))
    return drawn


def _is_figure(cell: str) -> bool:
    return not cell or cell[0] in "*+-0123456789"
