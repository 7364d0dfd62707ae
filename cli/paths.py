"""What `checkpoint=` and `init_from=` may name, told before torch is imported.

A run, a checkpoint file, a folder in Hugging Face's layout, or a model on the Hub. What is wrong
with one that is there is told by those who read it.
"""

import os
from collections.abc import Sequence
from typing import Any

from training.foreign import is_foreign

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
            if path and not os.path.exists(path) and not is_foreign(path):
                lines.append(
                    f"{key}={path}: no such file or directory; give a run directory that holds "
                    "checkpoints/best.ckpt, a checkpoint file, or a folder in Hugging Face's layout"
                )
    return lines


def scored_text_problems(config: dict[str, Any]) -> list[str]:
    """A line where the text to score is missing, or would be the one of training.

    A model from elsewhere brings none of its own, and the whole of a text is scored only where no
    training saw it.
    """
    if config.get("data") is not None or not isinstance(config["checkpoint"], str):
        return []
    for path in listed(config["checkpoint"]):
        if is_foreign(path):
            return [
                f"checkpoint={path}: was trained elsewhere, so that the text to score must be "
                "named; add data=text data.path=book.txt"
            ]
    if config["split"] != "all":
        return []
    return [
        "split=all: of the checkpoint's own text most was trained on; leave it out, or name "
        "another text, as in data=text data.path=book.txt"
    ]


def column_problems(config: dict[str, Any]) -> list[str]:
    """A line where `as=columns` has one checkpoint, beside which nothing stands."""
    value = config["checkpoint"]
    if config["as"] != "columns" or not isinstance(value, str) or len(listed(value)) > 1:
        return []
    return [
        f"as=columns: must have two or more checkpoints to put side by side; "
        f"try checkpoint=[{listed(value)[0]},OTHER_RUN], or leave it out"
    ]


def listed(value: str) -> list[str]:
    """The paths in `RUN` or `[RUN,RUN,…]`, each verbatim or in quotes; `~` is the user's home.

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
        path = ",".join(parts[:count]).strip().strip("'\"")
        paths.append(os.path.expanduser(path))
        parts = parts[count:]
    return paths


def _length_of_first(parts: Sequence[str]) -> int:
    """How many parts between commas the first path is made of."""
    heads = [",".join(parts[:n]).strip() for n in range(1, len(parts) + 1)]
    if (quote := heads[0][:1]) in ("'", '"'):
        return next((n for n, head in enumerate(heads, 1) if head[1:].endswith(quote)), 1)
    there = [n for n, head in enumerate(heads, 1) if os.path.exists(os.path.expanduser(head))]
    return max(there, default=1)
