"""Models side by side in a terminal: a table of each measure, methods × lengths down."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evaluation.columns import Columns, Row
from evaluation.report.columns.table import (
    ColumnTable,
    head_words,
    length_words,
    notes_of,
    reason_lines,
    tables_of,
)


def column_tables(columns: Columns) -> Iterator[RenderableType]:
    """What is printed, in order: each a title, a table and what there is to note."""
    for table in tables_of(columns):
        noted = [*notes_of(table, columns), *reason_lines(columns, table.measure)]
        lines = (Text(line, style="dim") for line in noted)
        yield Group(Text(table.title, style="italic"), _draw(table, columns), *lines)


def _draw(table: ColumnTable, columns: Columns) -> Table:
    """A row for each method and length, a section for each method."""
    drawn = Table()
    drawn.add_column("method", no_wrap=True)
    drawn.add_column("context", justify="right", no_wrap=True)
    for label in table.labels:
        # Folded where it reads well: several columns are to fit into a narrow terminal.
        head = head_words(label, columns).replace("=", "=\n").replace(",", ",\n")
        drawn.add_column(head, justify="right", min_width=7, overflow="fold")
    if table.last[0]:
        drawn.add_column(table.last[0], justify="right", no_wrap=True)
    for method, rows in groupby(table.rows, key=lambda row: row["method"]):
        for number, row in enumerate(rows):
            name = Text(method if number == 0 else "")
            drawn.add_row(name, length_words(row["length"], columns), *_cells(table, row))
        drawn.add_section()
    return drawn


def _cells(table: ColumnTable, row: Row) -> Iterator[Text]:
    for label in table.labels:
        value = row["values"].get(label)
        if value is None:
            yield Text("-", style="dim")
        elif label in row["best"]:
            yield Text(f"*{table.written(value)}", style="bold green")
        else:
            yield Text(table.written(value))
    if table.last[0]:
        yield Text(table.compared(row))
