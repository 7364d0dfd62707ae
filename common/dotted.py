"""Keys of nested configs as they are typed, dotted, and short names made of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"model.d_model": 96, …}`: the leaves of nested dictionaries; an empty one is a leaf."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last part of each dotted key, where no other ends in the same; else the whole."""
    last = {key: key.rpartition(".")[2] for key in keys}
    count = Counter(last.values())
    return {key: name if count[name] == 1 else key for key, name in last.items()}


def label(values: Mapping[str, str]) -> str:
    """`lr=0.001,seed=1`: of a sweep's job, and of a run among others, what is its own."""
    names = short_names(values)
    return ",".join(f"{names[key]}={value}" for key, value in values.items())
