"""What export.py asks before it loads a model, and what it takes from generate.py."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.compose import composed
from cli.keys import SAMPLING
from data import SubwordTokenizer, Tokenizer

if TYPE_CHECKING:
    from cli.trained import Trained


def directory_problems(output_dir: str) -> list[str]:
    """A line where a model cannot be written to `output_dir`, which must be new or empty."""
    path = Path(output_dir)
    for part in (path, *path.parents):
        if os.path.lexists(part) and not os.path.isdir(part):
            return [f"output_dir={output_dir}: {part} is a file; take output_dir=my-model"]
    if os.path.isdir(path) and os.listdir(path):
        return [f"output_dir={output_dir}: is not empty; take another, or remove it first"]
    return []


def exported_tokenizer(trained: "Trained") -> Tokenizer:
    """Its tokenizer, which begins a text there as the model's contexts begin here."""
    tokenizer = trained.tokenizer
    if isinstance(tokenizer, SubwordTokenizer) and not trained.beginning:
        return tokenizer.without_beginning()
    return tokenizer


def sampling_defaults() -> dict[str, Any]:
    """How generate.py samples where nothing is said."""
    config = composed("generate")
    return {key: config[key] for key in SAMPLING}
