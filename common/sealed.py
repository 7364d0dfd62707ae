"""Zip archives that tell when they have been damaged.

A sealed archive ends with a comment that holds the sha256 of every byte before it; whatever reads
zip archives passes over it. An archive without any comment is one of before there were seals: it
counts as whole if the checksums of its parts hold. Nothing is unpacked here.
"""

import errno
import hashlib
import os
import stat
import struct
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

# A zip archive's last record, which ends with the length of the comment.
_END = struct.Struct("<4s4H2LH")
_END_MARK = b"PK\x05\x06"
_LOCAL = struct.Struct("<4s5H3L2H")  # the record before each part
_TAG = b"ropewalk sha256 "
_SEAL_LENGTH = len(_TAG) + 64
_BLOCK = 1 << 20
_NO_END = "it has no archive's end: it was cut off, or is something else"


def seal(file: BinaryIO) -> None:
    """Append the digest to an open, readable binary file that holds a whole zip archive."""
    size = file.seek(0, os.SEEK_END)
    assert _comment_length(file, size) == 0
    file.seek(size - 2)
    file.write(struct.pack("<H", _SEAL_LENGTH))  # which the digest covers, too
    digest = _sha256(file, size)
    file.seek(size)
    file.write(_TAG + digest)


def damage(path: str | Path) -> str | None:
    """What is wrong with an archive, in a few words; None if it is whole and may be read.

    That it is sealed, and that its maker meant well, is not asked; but nothing in it can take more
    space than the file itself or lie outside of a directory that it might be unpacked into.
    """
    try:
        with _open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            return _seal_damage(file, size) or _archive_damage(file, size)
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"


def is_sealed(path: str | Path) -> bool:
    """Whether a whole archive ends with a digest."""
    with _open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        return _comment_length(file, size) != 0


def _open_regular(path: str | Path) -> BinaryIO:
    """A file to read; OSError for a pipe or a device, which might never answer."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return open(path, "rb")


def _comment_length(file: BinaryIO, size: int) -> int | None:
    """How long the comment at the archive's end is, ours or none; None where there is no end."""
    for length in (0, _SEAL_LENGTH):
        file.seek(max(0, size - _END.size - length))
        end = file.read(_END.size)
        if len(end) == _END.size and end.startswith(_END_MARK) and _END.unpack(end)[-1] == length:
            return length
    return None


def _seal_damage(file: BinaryIO, size: int) -> str | None:
    """What the digest says, where there is one."""
    if size == 0:
        return "it is empty"
    length = _comment_length(file, size)
    if not length:
        return _NO_END if length is None else None
    file.seek(size - length)
    tag = file.read(length)
    whole = tag == _TAG + _sha256(file, size - length)
    return None if whole else "its sha256 differs"


def _sha256(file: BinaryIO, length: int) -> bytes:
    """The digest of the first `length` bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while length and (block := file.read(min(length, _BLOCK))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest().encode()


def _archive_damage(file: BinaryIO, size: int) -> str | None:
    """What is wrong with the archive itself: its layout, then the checksums of its parts."""
    try:
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if wrong := _unsafe(parts, size) or _misplaced(file, parts, archive.start_dir):
                return wrong
            if not archive.comment and (bad := archive.testzip()):
                return f"the checksum of its part {bad!r} differs"
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, struct.error) as error:
        said = str(error).splitlines() or [repr(error)]
        return f"its archive cannot be read: {said[0]}"
    return None


def _unsafe(parts: list[zipfile.ZipInfo], size: int) -> str | None:
    """Why no part may be read: parts are stored as they are, each once, under a name within."""
    for part in parts:
        name = part.filename.replace("\\", "/")
        if part.compress_type != zipfile.ZIP_STORED or part.compress_size != part.file_size:
            return f"its part {name!r} is compressed"
        if name.startswith("/") or ":" in name or ".." in name.split("/"):
            return f"its part {name!r} has a name that leads elsewhere"
    if len({part.filename for part in parts}) < len(parts):
        return "it has two parts of one name"
    if sum(part.file_size for part in parts) > size:
        return "its parts are larger than the file"
    return None


def _misplaced(file: BinaryIO, parts: list[zipfile.ZipInfo], end: int) -> str | None:
    """Whether parts overlap, or something stands before the first one."""
    spans = []
    for part in parts:
        file.seek(part.header_offset)
        *_, name, extra = _LOCAL.unpack(file.read(_LOCAL.size))
        start = part.header_offset
        spans.append((start, start + _LOCAL.size + name + extra + part.file_size))
    spans = [*sorted(spans), (end, end)]
    if spans[0][0] != 0:
        return "something stands before its first part"
    if any(one[1] > other[0] for one, other in pairwise(spans)):
        return "its parts overlap"
    return None
