"""What has been measured so far, kept on the disk: a line for each finished cell.

`cells.jsonl` begins with a line on what is being measured: checkpoints, text, passages. The same
evaluation, started again, finds its finished cells there and goes on with the others. Methods,
measures and lengths may have been added; an evaluation of anything else is refused. A cell that did
not fit in memory is tried again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.measures.registry import MEASURES

CELLS = "cells.jsonl"
CHECK = "check"  # the key of a line's checksum
OUT_OF_MEMORY = "out of GPU memory"  # the reason that another start may not have


class Key(NamedTuple):
    """Which cell: `checkpoint` is its digest, or a name of the caller's."""

    checkpoint: str
    measure: str
    method: str
    length: int


@dataclass(frozen=True)
class Cell:
    """The figures of a measure, or the reason why there are none.

    Attributes:
        seconds: wall clock of the whole cell.
        tokens_per_second: inputs read. The first forward, which may compile kernels, is left out
            where there are more.
        peak_memory_bytes: the most that PyTorch had allocated on the GPU; None on a CPU.
    """

    figures: dict[str, Any] | None = None
    reason: str | None = None
    seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None


class Cells:
    """Finished cells by key, in memory and, where there is a `path`, in that file."""

    def __init__(self, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        """Take up what `path` holds of the evaluation that `identity` (plain data) describes.

        Raises ValueError where it holds another one, or is damaged.
        """
        self.path = path
        self._cells: dict[Key, Cell] = {}
        if path is None:
            return
        if path.exists() and (lines := _whole_lines(path)):
            _check_same(path, lines[0], dict(identity or {}))
            for line in lines[1:]:
                key, cell = _cell(path, line)
                if cell.reason != OUT_OF_MEMORY:
                    self._cells[key] = cell
        else:
            self._append(dict(identity or {}))

    def __contains__(self, key: Key) -> bool:
        return key in self._cells

    def __getitem__(self, key: Key) -> Cell:
        return self._cells[key]

    def __len__(self) -> int:
        return len(self._cells)

    def add(self, key: Key, cell: Cell) -> None:
        """Keep a finished cell; it is on the disk when this returns."""
        self._cells[key] = cell
        if self.path is not None:
            self._append({"cell": key._asdict(), **asdict(cell)})

    def _append(self, line: dict[str, Any]) -> None:
        assert self.path is not None
        text = json.dumps({**line, CHECK: _check(line)}, allow_nan=False)
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            error.filename = str(self.path)  # a write that fails does not say where
            raise


def _check(line: Mapping[str, Any]) -> str:
    """16 digits that tell a changed line, without them, from what was written."""
    return hashlib.sha256(json.dumps(line).encode()).hexdigest()[:16]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a store; one at its end that was cut off is taken out of the file too.

    Stores of before there were checksums are taken as they are.
    """
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    try:
        lines = [json.loads(line) for line in content[:end].splitlines()]
    except RecursionError:
        raise _damaged(path, "brackets without end") from None
    except ValueError as error:
        raise _damaged(path, error) from error
    checked = bool(lines) and isinstance(lines[0], dict) and CHECK in lines[0]
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict):
            raise _damaged(path, f"line {number} is no cell")
        check = line.pop(CHECK, None)
        if (checked or check is not None) and check != _check(line):
            raise _damaged(path, f"line {number} is not as it was written")
    return lines


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(
        f"output_dir={path.parent}: {path.name} in there is damaged ({why}); take another"
    )


def _cell(path: Path, line: dict[str, Any]) -> tuple[Key, Cell]:
    """The cell of a line. ValueError where it is none, or has not the figures of its measure."""
    try:
        key, cell = Key(**line.pop("cell")), Cell(**line)
        numbers = [cell.seconds, cell.tokens_per_second, cell.peak_memory_bytes]
        whole = _is_key(key) and (cell.figures is None) != (cell.reason is None)
        if cell.figures is None:
            whole = whole and isinstance(cell.reason, str)
        else:
            numbers.append(MEASURES[key.measure].headline(cell.figures))  # what tables show
        whole = whole and all(value is None or isinstance(value, (int, float)) for value in numbers)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        whole = False
    if not whole:
        raise _damaged(path, "a line is no cell")
    return key, cell


def _is_key(key: Key) -> bool:
    texts = (key.checkpoint, key.measure, key.method)
    return all(isinstance(text, str) for text in texts) and type(key.length) is int


def _check_same(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """ValueError where an evaluation is not the one that the store began with.

    Where its checkpoints lie may have changed, what they hold may not.
    """
    now = json.loads(json.dumps(now))
    for key in dict.fromkeys((*then, *now)):
        before, today = (_comparable(identity.get(key)) for identity in (then, now))
        if before != today:
            raise ValueError(
                f"output_dir={path.parent}: holds an evaluation with {key}={_short(before)}, not "
                f"{_short(today)}; go on with that one, or take another directory"
            )


def _comparable(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [{k: v for k, v in item.items() if k != "path"} for item in value]
    return value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
