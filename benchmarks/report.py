"""What is left of a part: tables in the terminal, its figures in benchmark.json, pictures.

Files are written after each part, so that its figures outlive a later one that fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from benchmarks.registry import part_module
from common.figures import Formats, write_figure
from common.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "benchmark.json"


def tables(part: str, result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a person sees of a part's result."""
    if reason := result.get("skipped"):
        yield f"{part}: {reason}"
    else:
        yield from part_module(part).tables(result)


def pictures(part: str, result: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of every picture of a part; none where it draws none or measured nothing."""
    module = part_module(part)
    if hasattr(module, "pictures"):
        yield from module.pictures(result)


def write_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write benchmark.json, whole or not at all."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    write_text(directory / REPORT, text)


def write_pictures(part: str, result: Mapping[str, Any], directory: Path, formats: Formats) -> None:
    """Write the pictures of a part in these formats, each whole or not at all."""
    for name, figure in pictures(part, result):
        write_figure(figure, directory, name, formats)
