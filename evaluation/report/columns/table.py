"""One measure of all models: what the terminal's table and the Markdown one are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evaluation.columns import Columns, Row
from evaluation.measures.registry import MEASURES
from evaluation.report.comparison import BPB_TITLE, times
from evaluation.report.words import better_words, mark_words, nothing_found


@dataclass(frozen=True)
class ColumnTable:
    """A measure's rows, by method.

    Attributes:
        last: the head of the last column, which compares the models, and how it is to be read.
    """

    measure: str
    title: str
    rows: list[Row]
    labels: list[str]
    last: tuple[str, str]
    form: str

    def compared(self, row: Row) -> str:
        """The last column: a difference with its interval; `-` where there is none."""
        two = len(self.labels) == 2
        found = row["differences"].get(self.labels[1]) if two else row["lead"]
        if found is None:
            return "-"
        return self.with_interval(found["value"], found["ci95"], "+" if two else "")

    def written(self, value: float, sign: str = "") -> str:
        """A value in the measure's form; what is rounded to zero has no sign."""
        text = self.form.replace("{:", f"{{:{sign}").format(value)
        return text.lstrip("+-") if not any(c in "123456789" for c in text) else text

    def with_interval(self, value: float, ci95: list[float] | None, sign: str = "") -> str:
        """`value [low, high]`."""
        text = self.written(value, sign)
        if ci95 is None:
            return text
        return f"{text} [{', '.join(self.written(end, sign) for end in ci95)}]"


def tables_of(columns: Columns) -> list[ColumnTable]:
    """One for each measure that was measured or was to be."""
    return [
        ColumnTable(
            measure,
            BPB_TITLE if measure == "loss" else f"{measure}: {MEASURES[measure].line}",
            rows,
            list(columns.models),
            _last(list(columns.models), measure, rows),
            MEASURES[measure].form,
        )
        for measure, rows in columns.measures.items()
        if rows
    ]


def _last(labels: list[str], measure: str, rows: list[Row]) -> tuple[str, str]:
    """The head of the last column and how it is to be read; empty where there is none."""
    known = any(ci95 for row in rows for ci95 in row["ci95"].values())
    head = " [95 %]" if known else ""
    paired = "paired over passages" if measure == "loss" else "not paired and so rather too wide"
    interval = f", with the 95 % interval of that, {paired}" if known else ""
    if len(labels) > 2:
        if MEASURES[measure].best is None:
            return "", ""
        what = "lead: how far the best model of a row is ahead of the next best"
        return f"lead{head}", f"{what}{interval}"
    what = f"difference: {labels[1]} less {labels[0]}{interval}"
    sign = {None: "", "lower is better": "negative", "higher is better": "positive"}
    if side := sign[better_words(measure)]:
        what += f"; where it is {side}, {labels[1]} is better"
    return f"difference{head}", what


def length_words(length: int, columns: Columns) -> str:
    """`2048 (8x)`; in tokens alone where the models' training lengths differ."""
    trained = {model["train_length"] for model in columns.models.values()}
    return f"{length} ({times(length, *trained)}x)" if len(trained) == 1 else str(length)


def head_words(label: str, columns: Columns) -> str:
    """A model's label, with its training length where they differ."""
    trained = [model["train_length"] for model in columns.models.values()]
    own = columns.models[label]["train_length"]
    return label if len(set(trained)) == 1 else f"{label}, trained at {own}"


def notes_of(table: ColumnTable, columns: Columns) -> list[str]:
    """What stands below a table: whether nothing was found, and how to read it."""
    p = columns.protocol
    marked = [row["best"] for row in table.rows]
    compared = max(len(row["values"]) for row in table.rows)
    marks = mark_words(table.measure, marked, compared, p["passages"], "model", "in its row")
    about = [better_words(table.measure)]
    if table.measure == "loss":
        about += [f"{p['target_tokens']} tokens in each of {p['passages']} passages"]
        about += [_trained(columns)]
    nothing = nothing_in(table.measure, table.rows, columns)
    how = [marks, table.last[1] if compared > 1 else None, "; ".join(filter(None, about))]
    lines = [nothing] if nothing else how
    return [line for line in lines if line]


def _trained(columns: Columns) -> str | None:
    lengths = {model["train_length"] for model in columns.models.values()}
    return f"all trained at {lengths.pop()} tokens" if len(lengths) == 1 else None


def nothing_in(
    measure: str, rows: list[Row], columns: Columns, who: str = "any model under any method"
) -> str | None:
    """A sentence where nothing was found in any of `rows`, whose makers `who` names."""
    figure, trials = MEASURES[measure].figure, columns.protocol["trials"]
    cells: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        for label, value in row["values"].items():
            figures = {figure: value, "ci95": row["ci95"][label], "trials": trials}
            cells.setdefault(f"{label} {row['method']}", {})[row["length"]] = figures
    return nothing_found(measure, cells, who)


def reason_lines(columns: Columns, measure: str) -> Iterator[str]:
    """`- MODELS under METHODS at LENGTHS: why`, each reason once, and only what is not all."""
    found: dict[str, set[tuple[str, str, str]]] = {}
    for label, by_method in columns.reasons.get(measure, {}).items():
        for method, by_length in by_method.items():
            for length, why in by_length.items():
                found.setdefault(why, set()).add((label, method, length))
    everything = (
        list(columns.models),
        list(columns.protocol["methods"]),
        list(map(str, columns.lengths)),
    )
    for why, cells in found.items():
        parts = []
        for axis, (word, names) in enumerate(zip(("", "under ", "at "), everything, strict=True)):
            there = [name for name in names if any(cell[axis] == name for cell in cells)]
            parts += [f"{word}{', '.join(there)}"] if len(there) < len(names) else []
        yield f"- {' '.join(parts) or 'everywhere'}: {why}"
