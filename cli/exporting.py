"""What export.py asks before it loads a model, and what it takes from generate.py."""

import os
from pathlib import Path
from typing import Any

from cli.compose import composed
from cli.keys import SAMPLING


def directory_problems(output_dir: str) -> list[str]:
    """A line where a model cannot be written to `output_dir`, which must be new or empty."""
    path = Path(output_dir)
    for part in (path, *path.parents):
        if os.path.lexists(part) and not os.path.isdir(part):
            return [f"output_dir={output_dir}: {part} is a file; take output_dir=my-model"]
    if os.path.isdir(path) and os.listdir(path):
        return [f"output_dir={output_dir}: is not empty; take another, or remove it first"]
    return []


def sampling_defaults() -> dict[str, Any]:
    """How generate.py samples where nothing is said."""
    config = composed("generate")
    return {key: config[key] for key in SAMPLING}
