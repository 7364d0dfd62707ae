"""Short names of several models: what differs between them, or else their directories."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.compose import flatten

LONGEST = 40
LENGTH = "data.seq_len"
# What makes a model, then what trained it; the keys of a label come in this order.
_PARTS = ("position", "scaling", "rope", "model", LENGTH, "optimizer", "trainer.max_steps", "seed")
_EQUAL = ("rope.backend", "model.fused_projection")  # leave a model what it is


def labels_of(configs: Sequence[Mapping[str, Any]], runs: Sequence[Path]) -> list[str]:
    """A label for each model, unique, fit to be the name of a directory.

    It says what differs in the configs (`position=alibi`), as much of it as there is room for; the
    training length, which tables show beside it, only where nothing else tells all models apart.
    Where that cannot be, it is the run's directory, with the one above it where need be.

    Args:
        configs: of the runs, nested dictionaries.
        runs: their directories.
    """
    flat = [flatten(config) for config in configs]
    keys = _differing(flat)
    models = [key for key in keys if key != LENGTH]
    wanted = [models, keys, *(keys[:count] for count in range(len(keys) - 1, 0, -1))]
    candidates = [[_label(one, which) for one in flat] for which in wanted]
    candidates += [_directories(runs, depth) for depth in (1, 2)]
    for labels in candidates:
        if len(set(labels)) == len(labels) and all(0 < len(text) <= LONGEST for text in labels):
            return labels
    return [f"{number}-{text[:LONGEST]}" for number, text in enumerate(candidates[-2], 1)]


def _differing(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of `_PARTS`, leaves that all configs have, whose values are not all the same."""
    return [
        key
        for part in _PARTS
        for key in flat[0]
        if (key == part or key.startswith(f"{part}."))
        and key not in _EQUAL
        and all(key in one and not isinstance(one[key], Mapping) for one in flat)
        and any(one[key] != flat[0][key] for one in flat)
    ]


def _label(config: Mapping[str, Any], keys: Sequence[str]) -> str:
    return safe_name(",".join(f"{_short(key)}={_shown(config[key])}" for key in keys))


def _short(key: str) -> str:
    """`optimizer.lr` as `lr`, `scaling.method` as `scaling`."""
    head, _, last = key.rpartition(".")
    return head if last == "method" else last


def _shown(value: Any) -> str:
    """As it is typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _directories(runs: Sequence[Path], depth: int) -> list[str]:
    return [safe_name("-".join(run.resolve().parts[-depth:])) for run in runs]


def safe_name(text: str) -> str:
    """Only letters, digits and . _ = , + @ -, and no point at the start."""
    return re.sub(r"[^\w.=,+@-]", "_", text).lstrip(".")
