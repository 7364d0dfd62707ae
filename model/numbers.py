"""Numbers of NumPy and torch, as users have them at hand."""

from typing import Any


def as_python(value: Any) -> Any:
    """A scalar of NumPy or torch as the Python number that it holds; all else as it is."""
    scalar = hasattr(value, "item") and getattr(value, "shape", None) == ()
    return value.item() if scalar else value
