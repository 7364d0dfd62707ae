"""What the figures take from a result: which methods have which measure, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Cells = dict[str, dict[int, Mapping[str, Any]]]  # method -> context -> figures of a measure


def cells(result: Mapping[str, Any], measure: str) -> Cells:
    """A measure's figures by method, in the result's order, and by context, ascending.

    Methods and lengths without figures are left out.
    """
    by_method = result.get("measures", {}).get(measure) or {}
    order = [name for name in result["methods"] if name in by_method]
    order += [name for name in by_method if name not in order]
    found = {
        name: {
            int(n): v
            for n, v in sorted(by_method[name].items(), key=lambda cell: int(cell[0]))
            if v is not None
        }
        for name in order
    }
    return {name: by_length for name, by_length in found.items() if by_length}


def longest(result: Mapping[str, Any], measure: str) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Each method's longest context of a measure, and the figures there."""
    return {name: max(by.items()) for name, by in cells(result, measure).items()}


def lengths_of(found: Cells) -> list[int]:
    """The contexts that any method has, ascending."""
    return sorted({n for by_length in found.values() for n in by_length})
