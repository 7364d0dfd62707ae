"""What the pictures take from a result: which methods have which figures, and at which contexts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Measured = dict[str, dict[int, Mapping[str, Any]]]  # method -> context -> figures of a measure


def measured(result: Mapping[str, Any], measure: str, key: str) -> Measured:
    """A measure's figures by method, in the result's order, and by context, ascending.

    Contexts without the figure `key` are left out, and methods without contexts.
    """
    by_method = result.get("measures", {}).get(measure) or {}
    order = dict.fromkeys([*result["methods"], *by_method])
    found = {
        name: {
            int(n): figures
            for n, figures in sorted(by_method.get(name, {}).items(), key=lambda item: int(item[0]))
            if figures is not None and figures.get(key) is not None
        }
        for name in order
    }
    return {name: by_length for name, by_length in found.items() if by_length}


def longest(
    result: Mapping[str, Any], measure: str, key: str
) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Each method's longest context of a measure, and the figures there."""
    return {name: max(by.items()) for name, by in measured(result, measure, key).items()}


def lengths_of(found: Measured) -> list[int]:
    """The contexts that any method has, ascending."""
    return sorted({n for by_length in found.values() for n in by_length})
