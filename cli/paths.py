"""Paths to checkpoints that are not there, told before torch is imported.

What is wrong with one that is there is told by those who read it.
"""

import os
from collections.abc import Sequence
from typing import Any

KEYS = ("checkpoint", "init_from")


def path_problems(config: dict[str, Any]) -> list[str]:
    """A line for each of `KEYS` whose path, or one of whose list of paths, is not there.

    A run that goes on by its path reads its own checkpoint, and not what it once began with.
    """
    keys = KEYS if config.get("resume") in (None, "auto") else KEYS[:1]
    lines = []
    for key in keys:
        value = config.get(key)
        for path in listed(value) if isinstance(value, str) else []:
            if path and not os.path.exists(path):
                lines.append(
                    f"{key}={path}: no such file or directory; give a run directory that holds "
                    "checkpoints/best.ckpt, or a checkpoint file"
                )
    return lines


def listed(value: str) -> list[str]:
    """The paths in `RUN` or `[RUN,RUN,…]`, each verbatim or in quotes.

    A path may hold commas, as a job's of a sweep does, `seed=1,lr=0.01`: in quotes it stays whole,
    and verbatim where there is one of that name.
    """
    inside = value.strip()
    if os.path.exists(value) or not (inside.startswith("[") and inside.endswith("]")):
        return [value]
    parts = inside[1:-1].split(",")
    paths = []
    while parts:
        count = _length_of_first(parts)
        paths.append(",".join(parts[:count]).strip().strip("'\""))
        parts = parts[count:]
    return paths


def _length_of_first(parts: Sequence[str]) -> int:
    """How many parts between commas the first path is made of."""
    heads = [",".join(parts[:n]).strip() for n in range(1, len(parts) + 1)]
    if (quote := heads[0][:1]) in ("'", '"'):
        return next((n for n, head in enumerate(heads, 1) if head[1:].endswith(quote)), 1)
    there = [n for n, head in enumerate(heads, 1) if os.path.exists(head)]
    return max(there, default=1)
