"""A file of comma-separated values that is written whole, and read as far as it is whole."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from common.files import write_text

Row = Mapping[str, object]


def header_of(path: Path) -> list[str]:
    """The names of the columns; none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8", errors="replace") as file:
        return next(csv.reader(file), [])


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows that have every column; a last line that was cut off is none."""
    text = path.read_bytes().decode("utf-8", "replace")
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(io.StringIO(whole, newline=""))
    return [row for row in rows if None not in row and None not in row.values()]


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Row]) -> None:
    """Write a new file in the place of `path`, whole or not at all; what a row lacks is empty."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(columns))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, out.getvalue())
