"""The JSON files of a folder, and errors that say whose they are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONFIG = "config.json"
LARGEST = 2**27  # bytes of a JSON file here; an index of a huge model has some 10 MB


def read_json(path: Path, where: str) -> dict[str, Any]:
    """A dictionary out of a JSON file; ValueError where it is not there or is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{where}: {path.name} has more than {LARGEST} bytes")
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
