"""The method that carries a model further, in the words of transformers' config.json.

Looked for at the longest length at which some method is better than the model as trained, beyond
the 95 % interval of the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluation.aggregate import Results
from evaluation.estimates import Paired, estimates_at
from evaluation.settings import Settings
from hf.scaling_out import is_read_by, rope_parameters
from methods.method import Method
from model.config import TransformerConfig

NONE = Method().name


def winning_setting(
    results: Results,
    settings: Settings,
    n_bytes: np.ndarray,
    config: TransformerConfig,
    family: str,
) -> dict[str, Any] | None:
    """`setting` of an `Extrapolation`; None where no loss past the training length was compared.

    `n_bytes`: (P,) of the targets. `config`: the model's; `family`: its model_type. Controls are
    no settings.
    """
    methods = {m.name: m for m in settings.methods if not m.is_control and m != Method()}
    lengths = [length for length in settings.lengths if length > settings.train_length]
    if "loss" not in settings.measures or not methods or not lengths:
        return None
    for length in reversed(lengths):
        found = estimates_at(results, "loss", [*methods, NONE], length, n_bytes)
        if better := _better_than_none(found):
            return _setting([methods[name] for name in better], length, settings, config, family)
    return {"length": None, "best": None, "method": None, "rope_parameters": None}


def _better_than_none(found: Mapping[str, Any]) -> list[str]:
    """The names of the methods that are, the best first."""
    if NONE not in found:
        return []
    better = [name for name, one in found.items() if _is_less(one, found[NONE])]
    return sorted(better, key=lambda name: found[name].value)


def _is_less(one: Paired, other: Paired) -> bool:
    """By more than a table shows, and beyond the interval."""
    _, interval = one.less(other)
    return not one.is_same(other) and interval is not None and interval[1] < 0


def _setting(
    better: list[Method],
    length: int,
    settings: Settings,
    config: TransformerConfig,
    family: str,
) -> dict[str, Any]:
    written = {method.name: _written(method, length, settings, config, family) for method in better}
    first = next((name for name, found in written.items() if found is not None), None)
    parameters = None if first is None else written[first]
    return {
        "length": length,
        "best": better[0].name,
        "method": first,
        "rope_parameters": parameters,
    }


def _written(
    method: Method,
    length: int,
    settings: Settings,
    config: TransformerConfig,
    family: str,
) -> dict[str, Any] | None:
    """None where transformers has no such setting."""
    if method.map is not None or method.logn:
        return None
    lengths = {"context": length, "train_length": settings.train_length}
    found = rope_parameters(config, method.arguments(config, **lengths))
    if found is not None and not is_read_by(family, found["rope_type"]):
        return None
    if found is None or config.local_theta is None:
        return found
    local = {"rope_type": "default", "rope_theta": config.local_theta}
    return {"full_attention": found, "sliding_attention": local}
