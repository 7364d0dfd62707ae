"""Packages whose names are imported when they are first asked for (PEP 562).

Importing torch takes seconds, and most of what a room checks needs none of it.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def importing(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of `package`; `names`: those of each module, by its full name.

    No name may be that of a module of the package itself, which would take its place.
    """
    modules = {name: module for module in names for name in names[module]}

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return __getattr__
