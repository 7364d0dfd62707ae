"""What a folder in Hugging Face's layout says of its model, before any weight is read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf.families import family_of
from hf.families.family import Family
from hf.hub import CONFIG
from model.config import TransformerConfig

LARGEST_CONFIG = 2**24  # bytes; those of Hugging Face have some thousands


@dataclass(frozen=True)
class Description:
    """A model as its config.json describes it."""

    directory: Path
    family: Family
    config: TransformerConfig
    max_length: int  # max_position_embeddings
    raw: dict[str, Any]  # config.json; of a model of text and images, its text_config
    dtype: str  # that its author names: float32, bfloat16, float16


def read(directory: str | Path, where: str | None = None, backend: str = "auto") -> Description:
    """Read a folder's config.json; needs no torch and runs nothing of the folder.

    Keys such as `auto_map`, which name code to be run, are let be: a known `model_type` is read as
    that type. Raises ValueError, in which `where` stands before the colon of each line, for a
    config.json that cannot be read and, by name, for what our Transformer cannot express.
    """
    directory = Path(directory)
    where = where or f"checkpoint={directory}"
    raw = read_json(directory / CONFIG, where)
    with saying(f"{where}: in its {CONFIG}, "):
        family = family_of(raw.get("model_type"))
        fields = family.read_config(raw)
        config = TransformerConfig(**fields, backend=backend)
    assert config.train_length is not None
    dtype = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    return Description(directory, family, config, config.train_length, raw, str(dtype))


def read_json(path: Path, where: str) -> dict[str, Any]:
    """A dictionary out of a JSON file; ValueError where it is not there or is none."""
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"{where}: {path.name} has more than {LARGEST_CONFIG} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{where}: has no {path.name} that can be read ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: {path.name} is not UTF-8 ({error})") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {path.name} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {path.name} holds no dictionary")
    return value


@contextmanager
def saying(before: str) -> Iterator[None]:
    """Put `before` at the start of every line of a ValueError."""
    try:
        yield
    except ValueError as error:
        lines = [f"{before}{line}" for line in str(error).splitlines()]
        raise ValueError("\n".join(lines)) from error
