"""Rotating q and k, shapes × peers: forward, forward with backward, and the error."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from benchmarks.bench import Bench
from benchmarks.rotation_times import rotation_times
from benchmarks.shapes import SHAPES
from benchmarks.tables import caption, microseconds, new_table, number, skipped


def grid(settings: Mapping[str, Any], bench: Bench) -> dict[str, Any]:
    """Times of both directions, and errors, of every shape that was asked for."""
    shapes = [SHAPES[name] for name in settings["cells"]]
    return rotation_times(shapes, settings["peers"], bench, ("forward", "forward_backward"))


def tables(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """A table for each shape."""
    for name, cell in result["cells"].items():
        if not cell.get("skipped"):
            yield _table(name, cell)
    yield from skipped(result)


def _table(name: str, cell: Mapping[str, Any]) -> Table:
    columns = ("× copy", "× ours")
    title = f"Rotating q and k, {name}, µs"
    table = new_table(title, "peer", "forward", *columns, "fwd+bwd", *columns)
    table.add_column("error", justify="right")
    directions = [cell["forward"], cell["forward_backward"]]
    for peer in dict.fromkeys([*directions[0], *directions[1], *cell["error"]]):
        row = []
        for figures in (direction.get(peer, {}) for direction in directions):
            row += [microseconds(figures.get("median_us"))]
            row += [number(figures.get(key), ".2f") for key in ("of_copy", "of_ours")]
        table.add_row(peer, *row, number(cell["error"].get(peer), ".1e"))
    notes = "× copy: of copying the same bytes; × ours: of ropewalk in the same pairing"
    notes += "; medians of ratios within a round"
    table.caption = caption(notes, cell["reasons"])
    return table
