"""Models side by side as files: JSON with everything, CSV in long form, Markdown, a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.figures import Formats, write_figure
from common.files import write_text
from evaluation.columns import Columns, Row
from evaluation.measures.registry import MEASURES
from evaluation.report.columns.table import (
    ColumnTable,
    head_words,
    length_words,
    notes_of,
    reason_lines,
    tables_of,
)
from evaluation.report.figures.columns import column_figures
from evaluation.report.words import sentence

CSV_FIELDS = (
    *("measure", "figure", "method", "length", "model", "value", "ci95_low", "ci95_high"),
    *("difference", "difference_low", "difference_high", "best", "reason"),
)


def write_columns(columns: Columns, directory: str | Path, formats: Formats = "png") -> None:
    """Write comparison.json, .csv, .md and the pictures, each whole or not at all.

    `formats` are the pictures' (`common.figures`).
    """
    directory = Path(directory)
    text = json.dumps(asdict(columns), indent=2, allow_nan=False) + "\n"
    write_text(directory / "comparison.json", text)
    write_text(directory / "comparison.csv", long_csv(columns))
    write_text(directory / "comparison.md", markdown(columns))
    for name, draw in column_figures(columns).items():
        write_figure(draw(), directory, name, formats)


def long_csv(columns: Columns) -> str:
    """One line per measure, method, length and model; differences are to the first model."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for measure, rows in columns.measures.items():
        for row in rows:
            writer.writerows(_lines(columns, measure, row))
    return out.getvalue()


def _lines(columns: Columns, measure: str, row: Row) -> Iterator[list[Any]]:
    figure = "bpb" if measure == "loss" else MEASURES[measure].figure
    for label in columns.models:
        by_method = columns.reasons.get(measure, {}).get(label, {})
        difference = row["differences"].get(label, {})
        yield [
            *(measure, figure, row["method"], row["length"], label, row["values"].get(label)),
            *(row["ci95"].get(label) or (None, None)),
            *(difference.get("value"), *(difference.get("ci95") or (None, None))),
            int(label in row["best"]),
            by_method.get(row["method"], {}).get(str(row["length"])),
        ]


def markdown(columns: Columns) -> str:
    """A table of each measure, with intervals in brackets and the best models in bold."""
    parts = [f"# Models side by side: {', '.join(columns.models)}"]
    parts += ["\n".join(_models(columns))]
    for table in tables_of(columns):
        parts += [f"## {table.title}", "\n".join(_table(table, columns))]
        noted, missing = notes_of(table, columns), reason_lines(columns, table.measure)
        parts += [*map(sentence, noted), "\n".join(missing)]
    legend = [f"- `{name}`: {line}" for name, line in columns.protocol["methods"].items()]
    return "\n\n".join([*filter(None, parts), "## Methods", "\n".join(legend)]) + "\n"


def _models(columns: Columns) -> Iterator[str]:
    """A line on each model: what differs, its size and training length, where it came from."""
    models = columns.models.values()
    always = ("train_length", "parameters")
    for label, model in columns.models.items():
        facts = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in model.items()
            if key != "path" and (key in always or any(m.get(key) != value for m in models))
        ]
        yield f"- `{label}`: {', '.join(facts)} ({model['path']})"


def _table(table: ColumnTable, columns: Columns) -> Iterator[str]:
    heads = ["method", "context", *(head_words(label, columns) for label in table.labels)]
    heads += [table.last[0]] if table.last[0] else []
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in table.rows:
        cells = [row["method"], length_words(row["length"], columns)]
        cells += [_cell(table, row, label) for label in table.labels]
        cells += [table.compared(row)] if table.last[0] else []
        yield f"| {' | '.join(cells)} |"


def _cell(table: ColumnTable, row: Row, label: str) -> str:
    value = row["values"].get(label)
    if value is None:
        return "-"
    text = table.with_interval(value, row["ci95"][label])
    mark, space, interval = text.partition(" ")
    return f"**{mark}**{space}{interval}" if label in row["best"] else text
