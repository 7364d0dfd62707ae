"""What the tables of all parts share: their form, how numbers are written, and notes below."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table


def new_table(title: str, first: str, *columns: str) -> Table:
    """An empty table that fits, in most cases, into 80 columns; `first` names the rows."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
    table.min_width, table.title_justify, table.caption_justify = 76, "left", "left"
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def microseconds(us: float | None) -> str:
    """A time as it stands in a table."""
    return number(us, ",.0f" if us is not None and us >= 1000 else ".1f")


def number(value: float | None, form: str) -> str:
    """A number in a format, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def caption(notes: str, reasons: Mapping[str, str]) -> str:
    """The notes, and who was left out, once for each reason."""
    return "\n".join([notes, *(f"{names}: {reason}" for reason, names in by_reason(reasons))])


def by_reason(reasons: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Every reason, with the names that it stands for in a row."""
    for reason in dict.fromkeys(filter(None, reasons.values())):
        yield reason, ", ".join(name for name, its in reasons.items() if its == reason)


def skipped(result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each reason why shapes were left out."""
    reasons = {name: cell.get("skipped") for name, cell in result["cells"].items()}
    for reason, names in by_reason(reasons):
        yield f"not measured: {names}: {reason}"
