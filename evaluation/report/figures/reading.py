"""What the figures take from a result: which methods have which measure, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cells = dict[str, dict[int, Mapping[str, Any]]]  # method -> context -> figures of a measure


def cells(result: Mapping[str, Any], measure: str, key: str) -> Cells:
    """A measure's figures by method, in the result's order, and by context, ascending.

    Cells without the figure `key` are left out, and methods without cells.
    """
    by_method = result.get("measures", {}).get(measure) or {}
    order = dict.fromkeys([*result["methods"], *by_method])
    found = {
        name: {
            int(n): figures
            for n, figures in sorted(by_method.get(name, {}).items(), key=lambda cell: int(cell[0]))
            if figures is not None and figures.get(key) is not None
        }
        for name in order
    }
    return {name: by_length for name, by_length in found.items() if by_length}


def longest(
    result: Mapping[str, Any], measure: str, key: str
) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Each method's longest context of a measure, and the figures there."""
    return {name: max(by.items()) for name, by in cells(result, measure, key).items()}


def lengths_of(found: Cells) -> list[int]:
    """The contexts that any method has, ascending."""
    return sorted({n for by_length in found.values() for n in by_length})
