"""The files of a benchmark: written after each part, so that a part's figures outlive the next."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.plots import pictures


def write_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write benchmark.json, whole or not at all."""
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    _write(directory / "benchmark.json", text.encode())


def write_pictures(part: str, result: Mapping[str, Any], directory: Path) -> None:
    """Write the PNG files of a part."""
    for name, content in pictures(part, result):
        _write(directory / name, content)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
