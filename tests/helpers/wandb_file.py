"""Reads what wandb writes offline: records in LevelDB's log format, each a protocol buffer.

https://github.com/google/leveldb/blob/main/doc/log_format.md; wandb's begins with 7 bytes of its
own. A record that does not fit into a block of 32 KiB is written in fragments.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEAD = 32_768, 7  # bytes of a block, of the head of a file and of a fragment
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), _HEAD, b""
    assert content.startswith(b":W&B")
    while at + _HEAD <= len(content):
        room = _BLOCK - at % _BLOCK
        if room < _HEAD:
            at += room
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts = (parts if kind in (_MIDDLE, _LAST) else b"") + content[at + _HEAD :][:length]
        at += _HEAD + length
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)
